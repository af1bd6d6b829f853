// One turn: asks for the answer to a branch and fills the answer's message as it comes.

import {ApiError, streamAnswer} from "./stream.js";
import {branchOf, sessionOf} from "./store.js";

function requestBody(conversation, answer, model) {
  const {system, temperature, topP, maxTokens} = conversation.settings;
  const messages = branchOf(conversation, answer.parent)
    .filter(({text}) => text)
    .map(({role, text}) => ({role, content: text}));
  if (system.trim()) messages.unshift({role: "system", content: system.trim()});
  return {model, messages, temperature, top_p: topP, max_tokens: maxTokens};
}

function take(answer, part, figures) {
  if (part.text || part.reasoning) {
    figures.last = performance.now();
    figures.first ??= figures.last;
    figures.pieces += 1;
  }
  if (part.text) answer.text += part.text;
  if (part.reasoning) answer.reasoning = (answer.reasoning ?? "") + part.reasoning;
  if (part.worker) answer.worker = part.worker;
  if (part.resumed) answer.resumed = answer.worker = part.resumed;
  if (part.finish === "length") answer.cut = true;
  if (part.usage) answer.usage = part.usage;
  if (figures.first) answer.firstTokenSeconds = (figures.first - figures.started) / 1000;
  if (part.usage && figures.last > figures.first) {
    answer.tokensPerSecond = (1000 * (part.usage.completion_tokens - 1)) / (figures.last - figures.first);
  }
}

// `answer` is an empty assistant message of the conversation. Its status tells how it ended: "done", "stopped" or "failed",
// with `error` {kind, message, retryAfter}. `onChange` runs after each change.
export async function runTurn(conversation, answer, {model, key, signal, onChange}) {
  const figures = {started: performance.now(), first: undefined, last: 0, pieces: 0};
  answer.status = "streaming";
  onChange();
  try {
    const session = sessionOf(conversation, answer.id);
    const parts = streamAnswer(requestBody(conversation, answer, model), {key, session, signal});
    for await (const part of parts) {
      take(answer, part, figures);
      onChange();
    }
    answer.status = "done";
  } catch (error) {
    answer.status = error.name === "AbortError" ? "stopped" : "failed";
    answer.pieces = figures.pieces;
    if (answer.status === "failed") {
      const {kind, message, retryAfter} = error instanceof ApiError ? error : {kind: "broken", message: String(error)};
      answer.error = {kind, message, retryAfter};
    }
  }
  onChange();
}
