// The page asks this server only. Its parts know nothing of each other: status each second, orders and sales less often,
// events as they come.
import { drawSales } from "/console/chart.js";
import { followEvents } from "/console/events.js";
import { age, count, find, fraction, text } from "/console/text.js";

// ask returns a JSON answer; an Error with the problem's own words when there is none.
async function ask(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" }, signal: AbortSignal.timeout(10_000) });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    throw new Error([body.title, body.detail].filter(Boolean).join(": ") || `HTTP ${answer.status}`);
  }
  return body;
}

// every calls work again and again, the given time after it last ended; hidden pages rest.
function every(milliseconds, work) {
  const again = async () => {
    if (!document.hidden) {
      await work();
    }
    setTimeout(again, milliseconds);
  };
  again();
}

const calm = ["live", "mirroring", "running", "up", "idle", "following"];
const broken = ["stopped", "damaged", "fenced", "retrying", "down", "failed"];

function tone(state) {
  const s = (state || "").toLowerCase();
  if (calm.includes(s)) return "good";
  return broken.includes(s) ? "bad" : "warn";
}

function badge(state) {
  const b = document.createElement("span");
  b.className = `state ${tone(state)}`;
  b.textContent = state || "–";
  return b;
}

// ---- figures

const rates = []; // events a second, the latest last
let before; // {events, at} of the status before

function rateOf(events, at) {
  const last = before;
  before = { events, at };
  if (!last || at <= last.at || events < last.events) return 0;
  return ((events - last.events) * 1000) / (at - last.at);
}

function drawSpark() {
  const svg = find("spark");
  const top = Math.max(1, ...rates);
  const points = rates.map((r, i) => `${(i * 120) / 59},${(26 - (r / top) * 24).toFixed(1)}`);
  svg.replaceChildren();
  if (points.length > 1) {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", "M" + points.join("L"));
    svg.append(path);
  }
}

function showFigures(s) {
  const now = performance.now();
  const rate = rateOf(Number(s.events), now);
  rates.push(rate);
  if (rates.length > 60) rates.shift();
  text("durable", s.durable || "–");
  text("streams", count(s.streams));
  text("rate", count(Math.round(rate)));
  drawSpark();
  text("shard", s.shard || "–");
  text("version", s.version || "–");
  text("uptime", s.started_at ? age((Date.now() - Date.parse(s.started_at)) / 1000) : "–");
  text("mirror-lag", s.mirror ? count(s.mirror.lag_events) : "off");
  text("mirror-note", s.mirror ? `${s.mirror.state} · ${s.mirror.topic}` : "no mirror");
  const models = s.projections || [];
  const worst = models.reduce((a, p) => (Number(p.lag_events) > Number(a?.lag_events ?? -1) ? p : a), undefined);
  text("model-lag", worst ? count(worst.lag_events) : "–");
  text("model-note", worst ? `${models.length} models · ${fraction(worst.lag_seconds)} s at most` : "no models");
}

// ---- followers

function follower(name, kind, f) {
  const row = document.createElement("tr");
  const cell = (content, className) => {
    const td = document.createElement("td");
    if (className) td.className = className;
    td.append(content);
    row.append(td);
    return td;
  };
  const first = cell(name);
  const small = document.createElement("small");
  small.textContent = kind;
  first.append(small);
  const state = cell(badge(f.state));
  // Followers keep their last error for the record; it is one of now only while they are not well.
  if (f.last_error) {
    const fault = document.createElement("small");
    const now = tone(f.state) !== "good";
    fault.className = now ? "fault" : "past";
    fault.textContent = now ? f.last_error : `earlier: ${f.last_error}`;
    fault.title = f.last_error;
    state.append(fault);
  }
  cell(f.position || "–", "n");
  cell(f.lag === undefined ? "–" : count(f.lag), "n");
  cell(f.seconds === undefined ? "–" : fraction(f.seconds), "n");
  cell(f.rate === undefined ? "–" : count(Math.round(f.rate)), "n");
  cell(f.parked === undefined ? "–" : count(f.parked), "n");
  return row;
}

function showFollowers(s) {
  const rows = [];
  for (const [name, m] of [["mirror", s.mirror], ["feed", s.feed]]) {
    if (!m) continue;
    rows.push(follower(name, `Kafka topic ${m.topic}`, { state: m.state, position: m.mirrored, lag: m.lag_events, last_error: m.last_error }));
  }
  for (const p of s.projections || []) {
    rows.push(follower(p.name, `read model v${p.version}${p.sink ? " in " + p.sink : ""}`, {
      state: p.state, position: p.position, lag: p.lag_events, seconds: p.lag_seconds, rate: p.rate, parked: p.parked, last_error: p.last_error,
    }));
  }
  for (const g of s.sagas || []) {
    rows.push(follower(g.name, `saga, ${count(g.open)} open`, { state: "running", position: g.position, last_error: g.last_error }));
  }
  find("followers").replaceChildren(...rows);
}

function showDependencies(s) {
  const items = (s.dependencies || []).map((d) => {
    const li = document.createElement("li");
    const name = document.createElement("span");
    name.textContent = d.name;
    const mode = document.createElement("span");
    mode.className = "mode";
    mode.textContent = d.up ? d.mode : d.problem || d.mode;
    li.append(name, badge(d.up ? "up" : "down"), mode);
    return li;
  });
  find("deps").replaceChildren(...items);
  const down = (s.dependencies || []).filter((d) => !d.up).map((d) => d.name);
  setBadge(down.length ? `${down.join(", ")} down` : "all is up", down.length ? "warn" : "good");
}

function setBadge(words, className) {
  const b = find("badge");
  b.textContent = words;
  b.className = `badge ${className}`;
}

function alert(words) {
  const p = find("alert");
  p.textContent = words;
  p.hidden = !words;
}

let latest; // the latest status

every(1000, async () => {
  try {
    const s = await ask("/v1/status");
    latest = s;
    showFigures(s);
    showFollowers(s);
    showDependencies(s);
    alert("");
    events.tick(s.durable);
  } catch (fault) {
    setBadge("no answer", "bad");
    alert(`The server does not answer: ${fault.message}. Trying again each second.`);
  }
});

// ---- orders

const statuses = ["created", "confirmed", "shipped", "cancelled"];

every(2000, async () => {
  const box = find("statuses");
  try {
    const { by_status: orders = {} } = await ask("/v1/order-counts");
    const names = [...new Set([...statuses, ...Object.keys(orders)])];
    const sum = names.reduce((n, s) => n + Number(orders[s] || 0), 0);
    text("orders", count(sum));
    text("orders-note", sum ? `${count(orders.shipped || 0)} shipped` : "none yet");
    const top = Math.max(1, ...names.map((s) => Number(orders[s] || 0)));
    box.replaceChildren(...names.map((status) => {
      const line = document.createElement("div");
      const label = document.createElement("span");
      label.textContent = status;
      const track = document.createElement("span");
      track.className = "track";
      const fill = document.createElement("span");
      fill.className = `fill ${statuses.includes(status) ? status : ""}`;
      fill.style.width = `${(Number(orders[status] || 0) * 100) / top}%`;
      track.append(fill);
      const n = document.createElement("b");
      n.textContent = count(orders[status] || 0);
      line.append(label, track, n);
      return line;
    }));
  } catch (fault) {
    empty(box, fault.message);
    text("orders", "–");
    text("orders-note", "");
  }
});

function empty(box, words) {
  const p = document.createElement("p");
  p.className = "empty";
  p.textContent = words;
  box.replaceChildren(p);
}

// ---- sales

let drawn; // position of the sales on the page

every(5000, async () => {
  const box = find("chart");
  try {
    const sales = await ask("/v1/sales/by-day?limit=10000");
    if (sales.position === drawn) return;
    drawn = sales.position;
    if (!sales.rows?.length) {
      empty(box, "no sales yet");
      text("sales-note", "");
      return;
    }
    const sum = drawSales(box, sales.rows);
    const lines = sales.rows.reduce((n, r) => n + Number(r.lines), 0);
    text("sales-note", `${sum} over ${count(sales.rows.length)} days, ${count(lines)} lines · as of position ${sales.position}`);
  } catch (fault) {
    drawn = undefined;
    empty(box, fault.message);
    text("sales-note", "");
  }
});

// ---- events

const events = followEvents(find("events"), find("events-note"), find("pause"));
if (latest) events.tick(latest.durable);
