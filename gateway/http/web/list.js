// What the buttons in the list of conversations do.

const $ = (id) => document.getElementById(id);

async function confirmDelete(conversation) {
  $("confirm-text").textContent = `Delete “${conversation.title}”? It cannot be brought back.`;
  $("confirm").returnValue = "";
  $("confirm").showModal();
  await new Promise((resolve) => $("confirm").addEventListener("close", resolve, {once: true}));
  return $("confirm").returnValue === "yes";
}

function rename(conversation, item, renamed) {
  const input = document.createElement("input");
  input.value = conversation.title;
  input.setAttribute("aria-label", "New name");
  item.replaceChildren(input);
  input.select();
  input.addEventListener("keydown", (event) => {
    if (event.key === "Escape") input.value = conversation.title;
    if (event.key === "Enter" || event.key === "Escape") input.blur();
    event.stopPropagation();
  });
  input.addEventListener("blur", () => {
    conversation.title = input.value.trim() || conversation.title;
    renamed(conversation);
  });
}

// `find` gives the conversation of an id; the others are told what a person did.
export function connectList({find, open, renamed, deleted}) {
  $("conversations").addEventListener("click", async (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const item = button.closest("li");
    const conversation = find(item.dataset.id);
    if (button.dataset.action === "open") open(conversation);
    if (button.dataset.action === "rename") rename(conversation, item, renamed);
    if (button.dataset.action === "delete" && (await confirmDelete(conversation))) deleted(conversation);
  });
}
