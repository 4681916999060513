// One conversation with one model, or with two side by side: it continues with the reply that is liked better.
import { streamReply } from "/page/stream.js";

const byId = (id) => document.getElementById(id);
const pickers = byId("pickers");
const chat = byId("chat");
const settings = byId("settings");
let models = [];
let turns = []; // { message, replies: [{ text, rating, ... }], tries, ... }
let running = null; // AbortController while replies are being written

function headers() {
  const key = byId("api-key").value.trim();
  return { "Content-Type": "application/json", ...(key && { Authorization: `Bearer ${key}` }) };
}

function say(text) {
  byId("note").textContent = text;
}

function addPicker(model) {
  const picker = byId("picker").content.firstElementChild.cloneNode(true);
  const select = picker.querySelector(".model");
  for (const { id } of models) select.add(new Option(id, id, false, id === model));
  pickers.append(picker);
}

function setCompare(on) {
  while (pickers.children.length > (on ? 2 : 1)) pickers.lastElementChild.remove();
  if (on && pickers.children.length < 2) {
    const first = pickers.querySelector(".model").value;
    const others = models.map(({ id }) => id).filter((id) => id !== first);
    addPicker(others.includes("sft") ? "sft" : others[0] ?? first);
  }
  pickers.classList.toggle("two", on);
  chat.classList.toggle("two", on);
  say(on ? "The conversation continues with the reply that you like better, or else with the left one." : "");
}

async function loadModels() {
  const response = await fetch("/v1/models", { headers: headers() });
  if (!response.ok) {
    say((await response.json()).error.message);
    if (response.status === 401) openSettings(true);
    return;
  }
  models = (await response.json()).data;
  pickers.replaceChildren();
  addPicker(models[0].id);
  setCompare(byId("compare").checked);
  say("");
}

function openSettings(open) {
  settings.hidden = !open;
  byId("settings-button").setAttribute("aria-expanded", String(open));
  if (open && !models.length) byId("api-key").focus();
}

function newChat() {
  running?.abort();
  turns = [];
  chat.replaceChildren(welcome);
  say("");
}
const welcome = byId("welcome");

// What the model sees: of each earlier turn the reply that was liked better.
function messagesBefore(turn) {
  const topic = byId("topic").value.trim();
  const messages = topic ? [{ role: "system", content: topic }] : [];
  for (const earlier of turns.slice(0, turns.indexOf(turn))) {
    messages.push({ role: "user", content: earlier.message }, { role: "assistant", content: preferred(earlier).text });
  }
  return [...messages, { role: "user", content: turn.message }];
}

function preferred(turn) {
  return turn.replies.reduce((best, reply) => (reply.rating > best.rating ? reply : best));
}

function showPreferred(turn) {
  const compared = turn.replies.length > 1;
  for (const reply of turn.replies) reply.element.classList.toggle("goes-on", compared && reply === preferred(turn));
}

async function send(message) {
  if (running || !models.length) return;
  welcome.remove();
  const element = document.createElement("section");
  element.className = "turn";
  const said = document.createElement("div");
  said.className = "said";
  said.textContent = message;
  const place = document.createElement("div");
  element.append(said, place);
  chat.append(element);
  const turn = { message, replies: [], tries: 0, element, place };
  turns.push(turn);
  await reply(turn);
}

async function reply(turn) {
  const messages = messagesBefore(turn);
  for (const earlier of turns) earlier.element.querySelectorAll(".again").forEach((button) => (button.hidden = true));
  turn.replies = [...pickers.children].map((picker) => newReply(turn, picker, messages));
  turn.place.className = turn.replies.length > 1 ? "replies two" : "replies";
  turn.place.replaceChildren(...turn.replies.map(({ element }) => element));
  turn.tries += 1;
  running = new AbortController();
  showRunning(true);
  const results = await Promise.all(turn.replies.map((one) => write(one, messages, turn.tries, running.signal)));
  running = null;
  showRunning(false);
  if (results.includes(false)) return undo(turn);
  turn.element.querySelectorAll(".again").forEach((button) => (button.hidden = turn.replies.length > 1));
  byId("message").focus({ preventScroll: true });
}

// A message without a reply is not part of the conversation; what was written stays to be sent again.
function undo(turn) {
  turns = turns.filter((other) => other !== turn);
  byId("message").value ||= turn.message;
}

function newReply(turn, picker, messages) {
  const element = byId("reply").content.firstElementChild.cloneNode(true);
  const model = picker.querySelector(".model").value;
  const decoding = picker.querySelector(".decoding").value;
  element.querySelector(".by").textContent = `${model}, ${picker.querySelector(".decoding").selectedOptions[0].text}`;
  const one = { element, model, decoding, text: "", rating: 0 };
  const rate = (rating) => thumb(turn, one, messages, one.rating === rating ? 0 : rating);
  element.querySelector(".up").addEventListener("click", () => rate(1));
  element.querySelector(".down").addEventListener("click", () => rate(-1));
  element.querySelector(".again").addEventListener("click", () => running || reply(turn));
  return one;
}

function body(one, messages, tries) {
  const seed = byId("seed").valueAsNumber;
  const temperature = byId("temperature").valueAsNumber;
  return {
    model: one.model,
    messages,
    stream: true,
    truncation: "auto",
    max_tokens: byId("max-tokens").valueAsNumber || 64,
    ...(Number.isNaN(temperature) ? {} : { temperature: one.decoding === "greedy" ? 0 : temperature }),
    ...(Number.isNaN(seed) ? {} : { seed: seed + tries - 1 }), // another try is another reply
    ...(["sample", "greedy"].includes(one.decoding) ? {} : { decoding: { method: one.decoding } }),
  };
}

// True if a reply came, whole or stopped by the user.
async function write(one, messages, tries, signal) {
  const text = one.element.querySelector(".text");
  text.classList.add("writing");
  try {
    await streamReply(body(one, messages, tries), headers(), signal, (piece, numDropped) => {
      const atEnd = chat.scrollHeight - chat.scrollTop - chat.clientHeight < 80;
      one.text = (one.text + piece).trimStart();
      text.textContent = one.text;
      if (numDropped) say("The conversation is longer than the model can see: it forgets the oldest part.");
      if (atEnd) chat.scrollTop = chat.scrollHeight;
    });
  } catch (error) {
    if (error.name !== "AbortError") {
      one.element.classList.add("failed");
      text.textContent = error.message;
      return false;
    }
  } finally {
    text.classList.remove("writing");
  }
  one.text = one.text.trimEnd();
  if (!one.text) {
    text.textContent = "no words";
    text.classList.add("empty");
  }
  one.element.querySelector(".thumbs").hidden = !one.text;
  return true;
}

async function thumb(turn, one, messages, rating) {
  const other = turn.replies.find((reply) => reply !== one);
  const response = await fetch("/feedback", {
    method: "POST",
    headers: headers(),
    body: JSON.stringify({
      model: one.model,
      decoding: one.decoding,
      messages,
      reply: one.text,
      rating: { 1: "up", 0: "none", "-1": "down" }[rating],
      ...(other?.text && { beside: other.text }),
    }),
  });
  if (!response.ok) return say((await response.json()).error.message);
  one.rating = rating;
  one.element.querySelector(".up").setAttribute("aria-pressed", String(rating > 0));
  one.element.querySelector(".down").setAttribute("aria-pressed", String(rating < 0));
  showPreferred(turn);
  say("Thank you. `groundup feedback import` makes training data of the thumbs.");
}

function showRunning(on) {
  byId("stop-button").hidden = !on;
  byId("send-button").hidden = on;
}

function grow() {
  const message = byId("message");
  message.style.height = "auto";
  message.style.height = `${message.scrollHeight}px`;
}

byId("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("message").value.trim();
  if (!text || running || !models.length) return;
  byId("message").value = "";
  grow();
  send(text);
});
byId("message").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    byId("composer").requestSubmit();
  }
});
byId("message").addEventListener("input", grow);
byId("stop-button").addEventListener("click", () => running?.abort());
byId("new").addEventListener("click", newChat);
byId("topic").addEventListener("change", newChat);
byId("api-key").addEventListener("change", loadModels);
byId("compare").addEventListener("change", (event) => setCompare(event.target.checked));
byId("settings-button").addEventListener("click", () => openSettings(settings.hidden));
settings.addEventListener("submit", (event) => event.preventDefault());
byId("openers").addEventListener("click", (event) => event.target.closest("button") && send(event.target.textContent));
loadModels();
