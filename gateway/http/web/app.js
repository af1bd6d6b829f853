// Wires the page: what is on show, and what each control does.

import {runTurn} from "./chat.js";
import {distanceToEnd, scrollToEnd, showSidebar} from "./frame.js";
import {connectList} from "./list.js";
import {connectMessages} from "./messages.js";
import {connectSettings, storedKey} from "./settings.js";
import * as store from "./store.js";
import {forkSession, listModels} from "./stream.js";
import * as view from "./view.js";

const $ = (id) => document.getElementById(id);

const state = {
  conversations: store.loadConversations(),
  current: null, // null: a new conversation that has no message yet
  settings: store.loadSettings(), // of new conversations
  models: [],
  runs: new Map(), // conversation id → AbortController of its running turn
};

const model = () => state.models.find(({id}) => id === (state.current?.model ?? $("model").value)) ?? state.models[0];
const isBusy = (conversation) => conversation !== null && state.runs.has(conversation.id);
const byId = (id) => state.conversations.find((conversation) => conversation.id === id) ?? null;
const isTouch = matchMedia("(pointer: coarse)").matches;

// ---- showing

function showBanner(text, label, action) {
  $("banner").hidden = !text;
  $("banner-text").textContent = text ?? "";
  $("banner-action").textContent = label ?? "";
  $("banner-action").onclick = action ?? null;
}

function showList() {
  view.showConversations($("conversations"), state.conversations, state.current, isBusy);
  $("no-conversations").hidden = state.conversations.length > 0;
}

function showControls() {
  const busy = isBusy(state.current);
  $("send").hidden = busy;
  $("stop").hidden = !busy;
  $("send").disabled = $("prompt").value.trim() === "";
  $("context").textContent = view.contextText(state.current, model());
}

function showModels() {
  const several = state.models.length > 1;
  $("model").hidden = !several;
  $("model-name").textContent = several ? "" : (state.models[0]?.id ?? "");
  const chosen = $("model").value;
  $("model").replaceChildren(...state.models.map(({id}) => new Option(id, id)));
  const wanted = state.current?.model ?? chosen;
  if (state.models.some(({id}) => id === wanted)) $("model").value = wanted;
  const longest = Math.min(...state.models.map(({max_model_len}) => max_model_len || Infinity), 8192);
  $("max-tokens").max = longest;
}

function showConversation() {
  const title = state.current?.title || "New conversation";
  $("title").textContent = title;
  document.title = state.current ? `${title} · Berth` : "Berth";
  if (state.current) view.showMessages($("messages"), state.current);
  else $("messages").replaceChildren();
  $("empty").hidden = state.current !== null;
  showList();
  showModels();
  showControls();
  if (state.current) scrollToEnd();
  else $("scroller").scrollTop = 0;
}

// So that a reload comes back to the same conversation.
function showAddress() {
  history.replaceState(null, "", state.current ? "#" + state.current.id : location.pathname);
}

function open(conversation) {
  state.current = conversation;
  showAddress();
  showConversation();
  showSidebar(false);
  if (!isTouch) $("prompt").focus();
}

// It has been deleted, here or in another tab.
function forget(conversation) {
  state.runs.get(conversation.id)?.abort();
  state.conversations = state.conversations.filter((other) => other !== conversation);
  if (conversation === state.current) open(null);
  else showList();
}

function save(conversation) {
  try {
    store.saveConversation(conversation);
  } catch {
    showBanner("This browser has no more room. Delete conversations to keep new ones.", "Close", () => showBanner());
  }
}

// ---- turns

// At most once per frame, and only what is on show.
function painter(conversation, answer) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      const node = conversation === state.current && $("messages").querySelector(`[data-id="${answer.id}"]`);
      if (!node) return;
      const follow = distanceToEnd() < 80;
      view.updateMessage(node, conversation, answer);
      if (follow) scrollToEnd();
    });
  };
}

function announce(answer) {
  const ends = {done: "", stopped: "The answer was stopped. ", failed: `The answer failed. ${answer.error?.message} `};
  $("announcer").textContent = `${ends[answer.status]}${answer.text}`;
}

async function ask(conversation, parent) {
  if (isBusy(conversation)) return;
  const answer = store.addMessage(conversation, parent, "assistant", "");
  const abort = new AbortController();
  state.runs.set(conversation.id, abort);
  conversation.model = model()?.id;
  save(conversation);
  $("announcer").textContent = "Answering.";
  const turn = runTurn(conversation, answer, {
    model: conversation.model,
    key: storedKey(),
    signal: abort.signal,
    onChange: painter(conversation, answer),
  });
  showConversation();
  await turn;
  state.runs.delete(conversation.id);
  if (byId(conversation.id)) save(conversation);
  announce(answer);
  showList();
  showControls();
}

async function send(text) {
  if (!text.trim() || isBusy(state.current)) return;
  if (state.models.length === 0 && !(await loadModels())) return;
  if (state.current === null) {
    state.current = store.createConversation(state.settings);
    state.current.model = $("model").value;
    state.conversations.unshift(state.current);
    showAddress();
  }
  $("prompt").value = "";
  fitPrompt();
  const message = store.addMessage(state.current, state.current.head, "user", text);
  await ask(state.current, message.id);
}

// Of a branch that begins after the message of this id. The parent's own does too where the server has no other.
async function branchSession(conversation, id) {
  const session = store.sessionOf(conversation, id);
  return forkSession(session, storedKey()).catch(() => session);
}

// True when the gateway has told its models.
async function loadModels() {
  try {
    state.models = await listModels(storedKey());
    if (state.models.length > 0) showBanner();
    else showBanner("No model is being served yet.", "Look again", loadModels);
  } catch (error) {
    if (error.kind === "unauthorized") showBanner("This server wants an API key.", "Enter key", openSettings);
    else showBanner(error.message, "Try again", loadModels);
  }
  showModels();
  showControls();
  return state.models.length > 0;
}

// ---- the parts of the page

connectList({
  find: byId,
  open,
  renamed(conversation) {
    save(conversation);
    if (conversation === state.current) $("title").textContent = conversation.title;
    showList();
  },
  deleted(conversation) {
    store.removeConversation(conversation);
    forget(conversation);
  },
});

const openSettings = connectSettings({
  values: () => state.current?.settings ?? state.settings,
  change(values) {
    Object.assign(state.settings, values);
    store.saveSettings(state.settings);
    if (!state.current) return;
    Object.assign(state.current.settings, values);
    save(state.current);
  },
  keyChanged: loadModels,
});

connectMessages($("messages"), {
  current: () => state.current,
  isBusy,
  ask,
  changed(conversation) {
    save(conversation);
    showConversation();
  },
  branchSession,
  async branch(message) {
    const parent = state.current;
    const fork = store.forkConversation(parent, message, await branchSession(parent, message.id));
    state.conversations.unshift(fork);
    save(fork);
    open(fork);
  },
  openSettings: () => openSettings(),
});

// ---- the frame

function fitPrompt() {
  const prompt = $("prompt");
  prompt.style.height = "auto";
  prompt.style.height = `${prompt.scrollHeight}px`;
  showControls();
}

$("prompt").addEventListener("input", fitPrompt);
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || isTouch) return;
  event.preventDefault();
  send($("prompt").value);
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  send($("prompt").value);
});
$("stop").addEventListener("click", () => {
  state.runs.get(state.current.id)?.abort();
  $("prompt").focus();
});
for (const idea of document.querySelectorAll(".ideas button")) {
  idea.addEventListener("click", () => send(idea.textContent));
}
$("new-chat").addEventListener("click", () => open(null));
$("model").addEventListener("change", () => {
  if (!state.current) return;
  state.current.model = $("model").value;
  save(state.current);
  showControls();
});
$("open-settings").addEventListener("click", openSettings);
$("open-help").addEventListener("click", () => $("help").showModal());

// Keys of the whole page: with Ctrl, and alone where nobody types.
const CONTROL_KEYS = {
  O: () => open(null),
  ",": openSettings,
};
const PLAIN_KEYS = {
  "/": () => $("prompt").focus(),
  "?": () => $("help").showModal(),
};

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") {
    if ($("sidebar").classList.contains("open")) showSidebar(false);
    else state.runs.get(state.current?.id)?.abort();
  }
  const typing = event.target.closest("input, textarea, select");
  const act = event.ctrlKey ? CONTROL_KEYS[event.key] : !typing && PLAIN_KEYS[event.key];
  if (!act) return;
  event.preventDefault();
  act();
});
// A page that goes away has its streams cut, which must not look like the server's fault.
addEventListener("beforeunload", () => {
  for (const run of state.runs.values()) run.abort();
});
addEventListener("pagehide", () => {
  for (const id of state.runs.keys()) save(byId(id));
});
addEventListener("online", loadModels);
// Another tab of this page changed conversations. One that is answered or edited here stays as it is shown.
addEventListener("storage", ({key}) => {
  if (!store.isAnyKey(key)) return;
  const edited = $("messages").querySelector("textarea") && state.current;
  const stays = (conversation) => conversation === edited || isBusy(conversation);
  for (const conversation of state.conversations.filter(store.isDeleted)) forget(conversation);
  for (const stored of store.loadConversations().filter((each) => store.isKeyOf(key, each))) {
    const conversation = byId(stored.id);
    if (conversation) store.merge(conversation, stored, stays(conversation) ? conversation.head : stored.head);
    else state.conversations.push(stored);
  }
  store.newestFirst(state.conversations);
  if (state.current && store.isKeyOf(key, state.current) && !stays(state.current)) showConversation();
  else if (!$("conversations").querySelector("input")) showList();
});

state.current = byId(location.hash.slice(1));
showConversation();
loadModels();
if (!isTouch) $("prompt").focus();
