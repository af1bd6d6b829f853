// The sheet with the settings of a conversation, and the API key.

import {DEFAULTS} from "./store.js";

const KEY = "berth.key"; // until the tab is closed
const SLIDERS = {temperature: "temperature", "top-p": "topP", "max-tokens": "maxTokens"};

const $ = (id) => document.getElementById(id);

// Null: none.
export const storedKey = () => sessionStorage.getItem(KEY);

function showNumber(id) {
  const {value, dataset} = $(id);
  document.querySelector(`output[for="${id}"]`).value = value;
  $(id).ariaValueText = dataset.unit ? `${value} ${dataset.unit}` : value;
}

function takeKey() {
  const key = $("key").value.trim();
  if (key === (storedKey() ?? "")) return false;
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
  return true;
}

// `values()` are the settings to show, `change` takes some that were changed, `keyChanged` runs after the key has. Returns the
// function that opens the sheet.
export function connectSettings({values, change, keyChanged}) {
  const show = () => {
    $("system").value = values().system;
    for (const [id, name] of Object.entries(SLIDERS)) {
      $(id).value = values()[name];
      showNumber(id);
    }
    $("key").value = storedKey() ?? "";
  };
  for (const [id, name] of Object.entries(SLIDERS)) {
    $(id).addEventListener("input", () => {
      showNumber(id);
      change({[name]: Number($(id).value)});
    });
  }
  $("system").addEventListener("input", () => change({system: $("system").value}));
  $("reset-settings").addEventListener("click", () => {
    change(DEFAULTS);
    show();
  });
  $("settings").addEventListener("close", () => {
    if (takeKey()) keyChanged();
  });
  return () => {
    show();
    $("settings").showModal();
  };
}
