// Markdown as models write it, turned into DOM nodes. Text only ever becomes text nodes: HTML in it is shown as written.

const MAX_DEPTH = 8; // of quotes, lists and emphasis inside one another
const FENCE = /^ {0,3}(`{3,}|~{3,})\s*([^`]*)$/;
const HEADING = /^ {0,3}(#{1,6})\s+(.*)$/;
const RULE = /^ {0,3}(?:(?:- *){3,}|(?:\* *){3,}|(?:_ *){3,})$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( {0,3})([-*+]|\d{1,9}[.)])( {1,4}|$)/;
const DELIMITERS = /^ *\|? *:?-+:? *(?:\| *:?-+:? *)*\|? *$/;

function element(tag, children = [], attributes = {}) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

const isBlank = (line) => line.trim() === "";
const isTable = (lines, i) => lines[i].includes("|") && i + 1 < lines.length && lines[i + 1].includes("-") &&
  DELIMITERS.test(lines[i + 1]) && cells(lines[i]).length === cells(lines[i + 1]).length;

function startsBlock(lines, i) {
  const line = lines[i];
  return [FENCE, HEADING, RULE, QUOTE, ITEM].some((pattern) => pattern.test(line)) || isTable(lines, i);
}

// The line after the block that starts at line `i`.
function blockEnd(lines, i) {
  const fence = FENCE.exec(lines[i]);
  let end = i + 1;
  if (fence) {
    const closes = (line) => line.trim().startsWith(fence[1]) && line.trim().replaceAll(fence[1][0], "") === "";
    while (end < lines.length && !closes(lines[end])) ++end;
    return Math.min(end + 1, lines.length);
  }
  if (HEADING.test(lines[i]) || RULE.test(lines[i])) return end;
  if (QUOTE.test(lines[i])) {
    while (end < lines.length && !isBlank(lines[end]) && (QUOTE.test(lines[end]) || !startsBlock(lines, end))) ++end;
    return end;
  }
  if (ITEM.test(lines[i])) return listEnd(lines, i);
  if (isTable(lines, i)) {
    for (end = i + 2; end < lines.length && lines[end].includes("|"); ++end);
    return end;
  }
  while (end < lines.length && !isBlank(lines[end]) && !startsBlock(lines, end)) ++end;
  return end;
}

// A list goes on over blank lines when an item or an indented line follows.
function listEnd(lines, i) {
  const ordered = isOrdered(lines[i]);
  let end = i + 1;
  for (let next = end; next < lines.length; ++next) {
    const line = lines[next];
    if (isBlank(line)) continue;
    const item = ITEM.test(line) && isOrdered(line) === ordered && !RULE.test(line);
    const lazy = next === end && !isBlank(lines[next - 1]) && !startsBlock(lines, next);
    if (!item && !lazy && !/^(?: {2}|\t)/.test(line)) break;
    end = next + 1;
  }
  return end;
}

const isOrdered = (line) => /^\s*\d/.test(line);

// The sources of the blocks of a text; a longer text that begins alike has the same first blocks.
export function splitBlocks(text) {
  const lines = text.replaceAll("\r\n", "\n").split("\n");
  const sources = [];
  for (let i = 0; i < lines.length;) {
    const end = isBlank(lines[i]) ? i + 1 : blockEnd(lines, i);
    if (!isBlank(lines[i])) sources.push(lines.slice(i, end).join("\n"));
    i = end;
  }
  return sources;
}

// Shows `text` in `container`. Blocks that are there already stay, so that a growing answer costs only its last block.
export function showMarkdown(container, text) {
  const sources = splitBlocks(text);
  const shown = container.blockSources ?? [];
  let same = 0;
  while (same < sources.length && shown[same] === sources[same]) ++same;
  while (container.childNodes.length > same) container.lastChild.remove();
  container.append(...sources.slice(same).map((source) => renderBlock(source, 0)));
  container.blockSources = sources;
}

function renderBlocks(text, depth) {
  if (depth > MAX_DEPTH) return [document.createTextNode(text)];
  return splitBlocks(text).map((source) => renderBlock(source, depth));
}

function renderBlock(source, depth) {
  const lines = source.split("\n");
  const fence = FENCE.exec(lines[0]);
  if (fence) return renderCode(lines, fence);
  const heading = HEADING.exec(lines[0]);
  // The page's own headings come above those of an answer.
  if (heading) return element("h" + Math.min(heading[1].length + 2, 6), inline(heading[2].replace(/\s+#+\s*$/, ""), 0));
  if (RULE.test(lines[0])) return element("hr");
  if (QUOTE.test(lines[0])) {
    return element("blockquote", renderBlocks(lines.map((line) => line.replace(QUOTE, "")).join("\n"), depth + 1));
  }
  if (ITEM.test(lines[0])) return renderList(lines, depth);
  if (isTable(lines, 0)) return renderTable(lines);
  return element("p", inline(source, 0));
}

function renderCode(lines, fence) {
  const closed = lines.length > 1 && (lines.at(-1) === "" || lines.at(-1).trim().startsWith(fence[1]));
  const code = lines.slice(1, closed ? -1 : undefined).join("\n");
  const language = fence[2].trim().split(/\s/)[0];
  const copy = element("button", ["Copy"], {type: "button", class: "copy-code", "aria-label": "Copy code"});
  const head = element("div", [element("span", [language || "code"]), copy], {class: "code-head"});
  const attributes = {tabindex: "0", role: "group", "aria-label": `${language} code`.trim()};
  const body = element("pre", [element("code", [code])], attributes);
  return element("div", [head, body], {class: "code"});
}

function renderList(lines, depth) {
  const items = [];
  for (const line of lines) {
    const item = ITEM.exec(line);
    const inner = item && (item[1].length >= (items.at(-1)?.indent ?? 9) || isOrdered(line) !== isOrdered(lines[0]));
    if (item && !inner) items.push({indent: item[0].length, lines: [line.slice(item[0].length)]});
    else items.at(-1).lines.push(line.replace(new RegExp(`^(?:\\t| {0,${items.at(-1).indent}})`), ""));
  }
  const attributes = isOrdered(lines[0]) ? {start: parseInt(lines[0], 10)} : {};
  return element(isOrdered(lines[0]) ? "ol" : "ul", items.map((item) => {
    const children = renderBlocks(item.lines.join("\n"), depth + 1);
    // A tight item is its text, not a paragraph.
    if (children[0]?.nodeName === "P") children.splice(0, 1, ...children[0].childNodes);
    return element("li", children);
  }), attributes);
}

function cells(line) {
  return line.trim().replace(/^\|/, "").replace(/\|$/, "").split("|").map((cell) => cell.trim());
}

function renderTable(lines) {
  const alignOf = (cell) => (!cell.endsWith(":") ? "left" : cell.startsWith(":") ? "center" : "right");
  const aligns = cells(lines[1]).map(alignOf);
  const row = (line, tag) => element("tr", aligns.map((align, i) =>
    element(tag, inline(cells(line)[i] ?? "", 0), {class: "align-" + align})));
  const table = element("table", [
    element("thead", [row(lines[0], "th")]),
    element("tbody", lines.slice(2).map((line) => row(line, "td"))),
  ]);
  return element("div", [table], {class: "table", tabindex: "0", role: "group", "aria-label": "Table"});
}

const LINK = /!?\[([^[\]]*)\]\(\s*((?:[^\s()]|\([^\s()]*\))*)(?:\s+"[^"]*")?\s*\)/y;
const ANGLE_LINK = /<(https?:\/\/[^\s<>]+)>/y;
const BARE_LINK = /https?:\/\/[^\s<>"]+/y;
const MARKS = [["**", "strong"], ["__", "strong"], ["~~", "del"], ["*", "em"], ["_", "em"]];
const SPECIAL = /[\\`![*_~<h\n]/g;

// Only what a reader may safely follow becomes a link.
function link(label, address) {
  if (!/^(?:https?:\/\/|mailto:)/i.test(address)) return [label, ` (${address})`];
  return [element("a", [label], {href: address, target: "_blank", rel: "noopener noreferrer"})];
}

function matchAt(pattern, text, i) {
  pattern.lastIndex = i;
  return pattern.exec(text);
}

// The nodes of a line or paragraph. `missing` holds closing marks that are known not to come, so that hostile text costs no
// more than its length.
function inline(text, depth) {
  if (depth > MAX_DEPTH) return [text];
  const nodes = [], missing = new Set();
  let plain = "";
  const put = (...parts) => {
    if (plain) nodes.push(plain);
    plain = "";
    nodes.push(...parts);
  };
  for (let i = 0; i < text.length;) {
    SPECIAL.lastIndex = i;
    const next = SPECIAL.exec(text)?.index ?? text.length;
    plain += text.slice(i, next);
    i = next;
    if (i === text.length) break;
    const found = special(text, i, depth, missing);
    if (found) put(...found.nodes);
    else plain += text[i];
    i += found ? found.length : 1;
  }
  put();
  return nodes;
}

// What stands at `i`: {nodes, length}, or null when it is plain text.
function special(text, i, depth, missing) {
  const c = text[i];
  if (c === "\n") return {nodes: [element("br")], length: 1};
  if (c === "\\") return /[!-/:-@[-`{-~]/.test(text[i + 1] ?? "") ? {nodes: [text[i + 1]], length: 2} : null;
  if (c === "`") return codeSpan(text, i, missing);
  if (c === "[" || c === "!") {
    const match = matchAt(LINK, text, i);
    return match && {nodes: link(match[1] || match[2], match[2]), length: match[0].length};
  }
  if (c === "<") {
    const match = matchAt(ANGLE_LINK, text, i);
    return match && {nodes: link(match[1], match[1]), length: match[0].length};
  }
  if (c === "h") {
    const match = /\w/.test(text[i - 1] ?? "") ? null : matchAt(BARE_LINK, text, i);
    const address = match?.[0].replace(/[.,;:!?'*_)\]]+$/, "");
    return match && {nodes: link(address, address), length: address.length};
  }
  return emphasis(text, i, depth, missing);
}

function codeSpan(text, i, missing) {
  const run = /`+/y;
  const ticks = matchAt(run, text, i)[0];
  if (missing.has(ticks)) return {nodes: [ticks], length: ticks.length};
  for (let end = text.indexOf(ticks, i + ticks.length); end >= 0; end = text.indexOf(ticks, end)) {
    const closing = matchAt(run, text, end)[0];
    if (closing === ticks) {
      return {nodes: [element("code", [text.slice(i + ticks.length, end)])], length: end + ticks.length - i};
    }
    end += closing.length;
  }
  missing.add(ticks);
  return {nodes: [ticks], length: ticks.length};
}

function emphasis(text, i, depth, missing) {
  for (const [mark, tag] of MARKS) {
    if (!text.startsWith(mark, i) || missing.has(mark) || !/\S/.test(text[i + mark.length] ?? " ")) continue;
    // 2*3*4 and snake_case_names are what they look like.
    const wordWise = mark.length === 1 || mark === "__";
    if (wordWise && /\w/.test(text[i - 1] ?? "")) continue;
    const end = closingMark(text, i + mark.length, mark, wordWise);
    if (end < 0) {
      missing.add(mark);
      continue;
    }
    const inner = text.slice(i + mark.length, end);
    return {nodes: [element(tag, inline(inner, depth + 1))], length: inner.length + 2 * mark.length};
  }
  return null;
}

function closingMark(text, from, mark, wordEnd) {
  for (let end = text.indexOf(mark, from + 1); end >= 0; end = text.indexOf(mark, end + 1)) {
    const single = mark.length === 1 && (text[end + 1] === mark || text[end - 1] === mark);
    const inWord = wordEnd && /\w/.test(text[end + mark.length] ?? "");
    // Of three marks the last two close: ***both***.
    const three = mark.length === 2 && text[end + 2] === mark[0];
    if (!single && !inWord && /\S/.test(text[end - 1])) return three ? end + 1 : end;
  }
  return -1;
}
