// Conversations, kept in this browser. A conversation is a tree of messages: editing a message or asking again grows a
// branch beside the old one. `head` is the last message of the branch on show.

const PREFIX = "berth.chat.";
const SETTINGS = "berth.settings";

export const DEFAULTS = {system: "", temperature: 0.7, topP: 0.95, maxTokens: 1024};

// Also where crypto.randomUUID is not: on plain HTTP beyond this machine.
function randomId(bytes) {
  const values = crypto.getRandomValues(new Uint8Array(bytes));
  return Array.from(values, (value) => value.toString(16).padStart(2, "0")).join("");
}

export function loadSettings() {
  try {
    return {...DEFAULTS, ...JSON.parse(localStorage.getItem(SETTINGS))};
  } catch {
    return {...DEFAULTS};
  }
}

export const saveSettings = (settings) => localStorage.setItem(SETTINGS, JSON.stringify(settings));

// Other tabs write the same conversations. A message of `own` was made in this tab, which alone changes it.
const own = new WeakSet();
// Ids that have been in the browser's storage: one that is not there any more was deleted by another tab.
const kept = new Set();

// Null: there is none that can be read.
function read(key) {
  try {
    const conversation = JSON.parse(localStorage.getItem(key));
    for (const message of Object.values(conversation.messages)) {
      if (message.status === "streaming") message.status = "stopped";
    }
    return conversation;
  } catch {
    return null;
  }
}

// What a storage event names is a conversation's, this one's or any; null: all that there is.
export const isKeyOf = (key, conversation) => key === null || key === PREFIX + conversation.id;
export const isAnyKey = (key) => key === null || key.startsWith(PREFIX);

export const newestFirst = (conversations) => conversations.sort((a, b) => b.updated - a.updated);

// Newest first. What cannot be read is left out.
export function loadConversations() {
  const keys = Object.keys(localStorage).filter((key) => key.startsWith(PREFIX));
  const conversations = keys.map(read).filter((conversation) => conversation !== null);
  for (const {id} of conversations) kept.add(id);
  return newestFirst(conversations);
}

export const isDeleted = ({id}) => kept.has(id) && localStorage.getItem(PREFIX + id) === null;

function takeMessages(conversation, stored) {
  for (const message of Object.values(stored.messages)) {
    if (!own.has(conversation.messages[message.id])) conversation.messages[message.id] = message;
  }
}

// Takes what another tab has stored, but for the last message on show, which becomes `head`.
export function merge(conversation, stored, head) {
  takeMessages(conversation, stored);
  Object.assign(conversation, {...stored, messages: conversation.messages, head});
}

// Throws when the browser gives no more room. What another tab has deleted stays deleted.
export function saveConversation(conversation) {
  if (isDeleted(conversation)) return;
  const stored = read(PREFIX + conversation.id);
  if (stored !== null) takeMessages(conversation, stored);
  localStorage.setItem(PREFIX + conversation.id, JSON.stringify(conversation));
  kept.add(conversation.id);
}

export const removeConversation = (conversation) => localStorage.removeItem(PREFIX + conversation.id);

export function createConversation(settings) {
  return {
    id: randomId(8),
    session: "web-" + randomId(12),
    title: "",
    settings: {...settings},
    messages: {},
    head: null,
    updated: Date.now(),
  };
}

function titleOf(text) {
  const line = text.trim().split("\n")[0];
  return line.length <= 60 ? line : line.slice(0, 59).trimEnd() + "…";
}

export function addMessage(conversation, parent, role, text) {
  const message = {id: randomId(6), parent, role, text, created: Date.now()};
  own.add(message);
  conversation.messages[message.id] = message;
  conversation.head = message.id;
  conversation.updated = Date.now();
  if (!conversation.title && role === "user") conversation.title = titleOf(text);
  return message;
}

// The messages of the branch on show, first to last.
export function branchOf(conversation, last = conversation.head) {
  const branch = [];
  for (let id = last; id; id = conversation.messages[id].parent) branch.unshift(conversation.messages[id]);
  return branch;
}

// The messages that could stand in this one's place, itself among them, oldest first.
export const versionsOf = (conversation, message) =>
  Object.values(conversation.messages).filter((other) => other.parent === message.parent);

// Shows the newest branch through a message.
export function showVersion(conversation, message) {
  const messages = Object.values(conversation.messages);
  for (let next = message; next; next = messages.findLast((child) => child.parent === next.id)) conversation.head = next.id;
}

// The session that a message belongs to: an edit begins a branch with one of its own.
export const sessionOf = (conversation, id) =>
  branchOf(conversation, id).findLast(({session}) => session)?.session ?? conversation.session;

// A conversation of its own, with this session, that begins with the branch up to `message`.
export function forkConversation(conversation, message, session) {
  const branch = branchOf(conversation, message.id).map((each) => ({...each, session: undefined}));
  return {
    ...createConversation(conversation.settings),
    session,
    title: conversation.title && `${conversation.title} (branch)`,
    model: conversation.model,
    messages: Object.fromEntries(branch.map((each) => [each.id, each])),
    head: message.id,
  };
}
