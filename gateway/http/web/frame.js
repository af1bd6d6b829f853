// What frames the conversation: the sidebar of narrow screens, the theme, the way to the latest message.

const THEME = "berth.theme";

const $ = (id) => document.getElementById(id);

export const distanceToEnd = () => $("scroller").scrollHeight - $("scroller").scrollTop - $("scroller").clientHeight;

export function scrollToEnd() {
  $("scroller").scrollTop = $("scroller").scrollHeight;
}

export function showSidebar(shown) {
  $("sidebar").classList.toggle("open", shown);
  $("backdrop").hidden = !shown;
  $("open-sidebar").setAttribute("aria-expanded", shown);
  if (shown) $("close-sidebar").focus();
}

$("open-sidebar").addEventListener("click", () => showSidebar(true));
$("close-sidebar").addEventListener("click", () => showSidebar(false));
$("backdrop").addEventListener("click", () => showSidebar(false));
$("scroller").addEventListener("scroll", () => {
  $("to-end").hidden = distanceToEnd() < 200;
});
$("to-end").addEventListener("click", scrollToEnd);
$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const systemTheme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  const dark = (root.dataset.theme ?? systemTheme) === "dark";
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem(THEME, root.dataset.theme);
});
