// The latest events, live from the log. When more come than anybody could read, the stream is left and taken up again at
// the end of the log, so that an import does not send the whole of itself to a page.
import { count } from "/console/text.js";

const shown = 25;
const tooMany = 400; // events between two ticks

export function followEvents(body, note, button) {
  let source;
  let last; // position of the latest event shown, or where to begin
  let arrived = 0;
  let waiting = []; // to be shown with the next frame
  let paused = false;
  let frame = 0;

  button.addEventListener("click", () => {
    paused = !paused;
    button.setAttribute("aria-pressed", String(paused));
    button.textContent = paused ? "Go on" : "Pause";
    if (paused) leave("paused");
  });
  document.addEventListener("visibilitychange", () => document.hidden && leave("resting"));

  function leave(why) {
    source?.close();
    source = undefined;
    note.textContent = why;
  }

  function enter(after) {
    source = new EventSource(`/v1/events?follow=true&after=${encodeURIComponent(after)}`);
    source.onopen = () => (note.textContent = "as they come");
    source.onmessage = (m) => {
      arrived++;
      const event = JSON.parse(m.data);
      last = event.position;
      waiting.push(event);
      if (waiting.length > shown) waiting.shift();
      if (arrived > tooMany) leave("many come at once: the newest each second");
      frame ||= requestAnimationFrame(show);
    };
    source.addEventListener("problem", (m) => {
      leave(JSON.parse(m.data).problem?.title || "ended");
      last = undefined; // a log that was replaced has other positions
    });
    source.onerror = () => {
      leave("connection lost, trying again");
    };
  }

  function show() {
    frame = 0;
    const rows = waiting.map(row).reverse();
    waiting = [];
    body.prepend(...rows);
    while (body.rows.length > shown) body.lastElementChild.remove();
  }

  // tick is called each second with how far the log is.
  function tick(durable) {
    arrived = 0;
    if (paused || document.hidden || source || !durable) return;
    enter(begin(durable, last));
  }

  return { tick };
}

// begin returns after which position to go on: the last one seen, unless the end of the log is far beyond or elsewhere.
function begin(durable, last) {
  const [life, end] = durable.split("-").map(Number);
  const tail = `${life}-${Math.max(0, end - shown)}`;
  if (!last) return tail;
  const [lastLife, at] = last.split("-").map(Number);
  return lastLife === life && at <= end && at >= end - shown ? last : tail;
}

function row(event) {
  const tr = document.createElement("tr");
  tr.className = "new";
  const cell = (words, className) => {
    const td = document.createElement("td");
    if (className) td.className = className;
    td.textContent = words;
    tr.append(td);
    return td;
  };
  cell(event.position, "n");
  cell(new Date(event.recorded_at).toLocaleTimeString([], { hour12: false }));
  cell(event.type, "mono");
  cell(`${event.category}/${event.stream_id} @${count(event.version)}`);
  const what = event.payload_json || `${event.content_type}, ${Math.floor((event.payload.length * 3) / 4)} bytes`;
  cell(what.length > 300 ? what.slice(0, 300) + "…" : what).title = what.slice(0, 2000);
  return tr;
}
