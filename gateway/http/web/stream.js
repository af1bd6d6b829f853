// The gateway's HTTP API, as far as the page needs it.

// `kind`: "unreachable" (no answer at all), "unauthorized" (a key is wanted), "refused" (an error answer), "broken" (the
// stream ended early).
export class ApiError extends Error {
  constructor(kind, message, retryAfter = 0) {
    super(message);
    this.kind = kind;
    this.retryAfter = retryAfter;
  }
}

async function request(path, key, options = {}) {
  const headers = {...options.headers};
  if (key) headers.Authorization = `Bearer ${key}`;
  let response;
  try {
    response = await fetch(path, {...options, headers});
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("unreachable", "The server cannot be reached.");
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const message = body?.error?.message ?? `The server answered ${response.status}.`;
  const kind = response.status === 401 ? "unauthorized" : "refused";
  throw new ApiError(kind, message, Number(response.headers.get("Retry-After")));
}

// [{id, max_model_len}, …]
export async function listModels(key) {
  return (await (await request("v1/models", key)).json()).data;
}

// The name of a branch of a session, which goes to the worker that has the session in its cache.
export async function forkSession(session, key) {
  const response = await request("v1/sessions/fork", key, {
    method: "POST",
    headers: {"Content-Type": "application/json"},
    body: JSON.stringify({session_id: session}),
  });
  return (await response.json()).session_id;
}

// One answer as it grows: {worker}, {text}, {reasoning}, {resumed}, {finish}, {usage}. Throws ApiError, or AbortError when
// `signal` says stop.
export async function* streamAnswer(body, {key, session, signal}) {
  const response = await request("v1/chat/completions", key, {
    method: "POST",
    headers: {"Content-Type": "application/json", "X-Session-Id": session},
    body: JSON.stringify({...body, stream: true, stream_options: {include_usage: true}}),
    signal,
  });
  yield {worker: response.headers.get("X-Worker-Hint")?.split("/")[0]};
  for await (const line of readLines(response.body)) {
    if (line.startsWith(": resumed on ")) yield {resumed: line.slice(": resumed on ".length)};
    if (!line.startsWith("data:")) continue;
    const data = line.slice("data:".length).trim();
    if (data === "[DONE]") return;
    const event = JSON.parse(data);
    if (event.error) throw new ApiError("refused", event.error.message);
    const choice = event.choices?.[0];
    if (choice?.delta?.reasoning_content) yield {reasoning: choice.delta.reasoning_content};
    if (choice?.delta?.content) yield {text: choice.delta.content};
    if (choice?.finish_reason) yield {finish: choice.finish_reason};
    if (event.usage) yield {usage: event.usage};
  }
  throw new ApiError("broken", "The connection was lost before the answer ended.");
}

async function* readLines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    while (true) {
      const {value, done} = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      yield* lines.map((line) => line.replace(/\r$/, ""));
    }
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("broken", "The connection was lost before the answer ended.");
  } finally {
    reader.cancel().catch(() => {});
  }
}
