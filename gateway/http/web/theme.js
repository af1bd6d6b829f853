// Runs before the first paint: the theme that was chosen here before, else the system's.
const chosenTheme = localStorage.getItem("berth.theme");
if (chosenTheme) document.documentElement.dataset.theme = chosenTheme;
