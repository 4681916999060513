// Reads a streamed chat completion; onPiece(text, number of messages that no longer fitted).
export async function streamReply(body, headers, signal, onPiece) {
  const response = await fetch("/v1/chat/completions", { method: "POST", headers, body: JSON.stringify(body), signal });
  if (!response.ok) throw new Error((await response.json()).error.message);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) throw new Error("The server ended the reply too early.");
    const events = (held + value).split("\n\n");
    held = events.pop();
    for (const event of events) {
      const data = event.replace(/^data: /, "");
      if (data === "[DONE]") return;
      const part = JSON.parse(data);
      if (part.error) throw new Error(part.error.message);
      for (const { delta } of part.choices) onPiece(delta.content ?? "", part.num_dropped_messages ?? 0);
    }
  }
}
