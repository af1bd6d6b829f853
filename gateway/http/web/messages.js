// What the buttons of messages do.

import {addMessage, showVersion, versionsOf} from "./store.js";
import {createMessage, showDone, showEditor} from "./view.js";

async function copyText(button, text) {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
  } else {
    // Plain HTTP beyond this machine has no clipboard of the new kind.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  showDone(button);
}

// `list` holds the messages of `current()`. `isBusy(conversation)`: a turn of it runs; `ask(conversation, parent)` starts one;
// `changed(conversation)`: another version is to be shown; `branchSession(conversation, id)` gives the session of a branch that
// begins after a message; `branch(message)` and `openSettings()` are the buttons of these names.
export function connectMessages(list, {current, isBusy, ask, changed, branchSession, branch, openSettings}) {
  const stepVersion = (message, by) => {
    const versions = versionsOf(current(), message);
    showVersion(current(), versions[versions.indexOf(message) + by]);
    changed(current());
  };
  const actions = {
    copy: (message, node, button) => copyText(button, message.text),
    edit: (message, node) => showEditor(node, message),
    "cancel-edit": (message, node) => {
      node.replaceWith(createMessage(current(), message));
      list.querySelector(`[data-id="${message.id}"] [data-action=edit]`).focus();
    },
    "send-edit": async (message, node, button) => {
      const conversation = current();
      const text = node.querySelector("textarea").value;
      if (!text.trim() || isBusy(conversation)) return;
      button.disabled = true;
      const session = await branchSession(conversation, message.parent);
      button.disabled = false;
      if (isBusy(conversation)) return;
      const edited = addMessage(conversation, message.parent, "user", text);
      ask(conversation, Object.assign(edited, {session}).id);
      document.getElementById("prompt").focus();
    },
    regenerate: (message) => ask(current(), message.parent),
    retry: (message) => ask(current(), message.parent),
    branch,
    "previous-version": (message) => stepVersion(message, -1),
    "next-version": (message) => stepVersion(message, 1),
    settings: openSettings,
  };

  list.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.classList.contains("copy-code")) {
      copyText(button, button.closest(".code").querySelector("code").textContent);
      return;
    }
    const node = button.closest(".message");
    actions[button.dataset.action]?.(current().messages[node.dataset.id], node, button);
  });
  list.addEventListener("keydown", (event) => {
    const node = event.target.closest(".message");
    if (event.target.tagName !== "TEXTAREA") return;
    if (event.key === "Escape") node.querySelector("[data-action=cancel-edit]").click();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) node.querySelector("[data-action=send-edit]").click();
    event.stopPropagation();
  });
}
