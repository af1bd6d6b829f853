// The messages and the list of conversations as DOM nodes. A button's data-action tells what it does; app.js acts on it.

import {showMarkdown} from "./markdown.js";
import {branchOf, versionsOf} from "./store.js";

const SVG = "http://www.w3.org/2000/svg";

function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", "#i-" + name);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

function make(tag, className, ...children) {
  const node = document.createElement(tag);
  node.className = className;
  node.append(...children);
  return node;
}

function iconButton(name, label, action) {
  const button = make("button", "icon", icon(name));
  button.type = "button";
  button.title = label;
  button.setAttribute("aria-label", label);
  button.dataset.action = action;
  return button;
}

export function textButton(label, action, className = "") {
  const button = make("button", className, label);
  button.type = "button";
  button.dataset.action = action;
  return button;
}

export function showDone(button) {
  const before = [...button.childNodes];
  button.replaceChildren(button.classList.contains("icon") ? icon("check") : "Copied");
  setTimeout(() => button.replaceChildren(...before), 1500);
}

const number = (value) => value.toLocaleString("en");

function figuresOf(message) {
  const parts = [];
  if (message.usage) parts.push(`${number(message.usage.completion_tokens)} tokens`);
  else if (message.pieces) parts.push(`about ${number(message.pieces)} tokens`);
  if (message.firstTokenSeconds !== undefined) parts.push(`${message.firstTokenSeconds.toFixed(2)} s to first token`);
  if (message.tokensPerSecond) parts.push(`${message.tokensPerSecond.toFixed(1)} tok/s`);
  if (message.worker) parts.push(message.worker);
  return parts.join(" · ");
}

function versionSwitch(conversation, message) {
  const versions = versionsOf(conversation, message);
  if (versions.length < 2) return "";
  const at = versions.indexOf(message);
  const previous = iconButton("left", "Previous version", "previous-version");
  const next = iconButton("right", "Next version", "next-version");
  previous.disabled = at === 0;
  next.disabled = at === versions.length - 1;
  const place = make("span", "", `${at + 1} / ${versions.length}`);
  place.setAttribute("aria-label", `Version ${at + 1} of ${versions.length}`);
  return make("span", "versions", previous, place, next);
}

function toolsOf(conversation, message) {
  if (message.status === "streaming") return [];
  const copy = iconButton("copy", "Copy message", "copy");
  if (message.role === "user") {
    return [versionSwitch(conversation, message), copy, iconButton("edit", "Edit message", "edit")];
  }
  return [
    ...(message.text ? [copy, iconButton("branch", "Branch into a new conversation", "branch")] : []),
    iconButton("retry", "Answer again", "regenerate"),
    versionSwitch(conversation, message),
    make("span", "figures", figuresOf(message)),
  ];
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1).replace(/[^.!?]$/, "$&.");

function problemText({kind, message, retryAfter}) {
  if (kind === "unauthorized") return `${sentence(message)} Enter an API key in the settings.`;
  return retryAfter > 0 ? `${sentence(message)} Try again in ${retryAfter} s.` : sentence(message);
}

function notesOf(message) {
  const notes = [];
  const note = (text) => make("p", "note", text);
  if (message.resumed) {
    notes.push(note(`A worker was lost. ${message.resumed} took over and the answer went on without a gap.`));
  }
  if (message.cut) notes.push(note("The answer was cut at its token limit, which you can raise in the settings."));
  if (message.status === "stopped") notes.push(note("Stopped."));
  if (message.status === "failed") {
    const problem = make("div", "problem", make("span", "", problemText(message.error)));
    if (message.error.kind === "unauthorized") problem.append(textButton("Enter key", "settings"));
    problem.append(textButton("Try again", "retry"));
    notes.push(problem);
  }
  return notes;
}

function thinkingOf(message) {
  const thinking = make("details", "thinking", make("summary", "", "Thinking"), make("div", ""));
  thinking.hidden = true;
  return thinking;
}

export function createMessage(conversation, message) {
  const user = message.role === "user";
  const node = make("article", "message " + message.role);
  node.dataset.id = message.id;
  node.setAttribute("aria-label", user ? "You" : "Answer");
  if (!user) node.append(thinkingOf(message));
  node.append(make("div", user ? "text" : "text markdown"), make("div", "notes"), make("div", "tools"));
  updateMessage(node, conversation, message);
  return node;
}

function waiting() {
  const dots = make("span", "waiting", make("i", ""), make("i", ""), make("i", ""));
  dots.setAttribute("role", "img");
  dots.setAttribute("aria-label", "Waiting for the answer");
  return dots;
}

export function updateMessage(node, conversation, message) {
  const text = node.querySelector(".text");
  if (message.role === "user") text.textContent = message.text;
  else if (message.text) {
    text.querySelector(".waiting")?.remove();
    showMarkdown(text, message.text);
  } else text.replaceChildren(...(message.status === "streaming" ? [waiting()] : []));
  if (message.reasoning) {
    const thinking = node.querySelector(".thinking");
    thinking.hidden = false;
    thinking.lastChild.textContent = message.reasoning;
  }
  node.setAttribute("aria-busy", message.status === "streaming");
  node.querySelector(".notes").replaceChildren(...notesOf(message));
  node.querySelector(".tools").replaceChildren(...toolsOf(conversation, message));
}

export function showMessages(container, conversation) {
  container.replaceChildren(...branchOf(conversation).map((message) => createMessage(conversation, message)));
}

// Turns a user's message into a form with its text.
export function showEditor(node, message) {
  const area = make("textarea", "");
  area.value = message.text;
  area.setAttribute("aria-label", "Edited message");
  const send = textButton("Send as a new branch", "send-edit", "primary");
  const form = make("div", "edit", area, make("div", "actions", textButton("Cancel", "cancel-edit"), send));
  node.replaceChildren(form);
  area.focus();
  area.setSelectionRange(area.value.length, area.value.length);
}

export function showConversations(list, conversations, current, isBusy) {
  list.replaceChildren(...conversations.map((conversation) => {
    const open = textButton(conversation.title, "open", isBusy(conversation) ? "open busy" : "open");
    const item = make("li", conversation === current ? "current" : "", open);
    if (conversation === current) open.setAttribute("aria-current", "page");
    item.dataset.id = conversation.id;
    item.append(iconButton("edit", `Rename ${conversation.title}`, "rename"),
                iconButton("trash", `Delete ${conversation.title}`, "delete"));
    return item;
  }));
}

// How much of the model's context the branch on show takes, as far as answers have told.
export function contextText(conversation, model) {
  const usage = conversation && branchOf(conversation).findLast((message) => message.usage)?.usage;
  if (!usage) return "";
  const used = number(usage.total_tokens);
  const all = model?.max_model_len ? ` of ${number(model.max_model_len)}` : "";
  return `${used}${all} tokens of context`;
}
