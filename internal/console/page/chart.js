// Sales by day as bars on a scale of time, so that days without sales are gaps. Long times without any are cut short.
import { count } from "/console/text.js";

const svgNames = "http://www.w3.org/2000/svg";
const day = 86_400_000;
const height = 220;
const longGap = 21; // days without sales from which on they are cut
const cutGap = 5; // to so many
const fewest = 14; // slots, so that a first day is no wall
const edge = { left: 52, right: 6, top: 8, bottom: 22 };
const months = new Intl.DateTimeFormat("en", { month: "short", year: "numeric", timeZone: "UTC" });
const days = new Intl.DateTimeFormat("en", { weekday: "short", day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });
const money = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

function element(name, attributes) {
  const e = document.createElementNS(svgNames, name);
  for (const [key, value] of Object.entries(attributes)) e.setAttribute(key, value);
  return e;
}

// steps returns round numbers that cover what lies between two.
function steps(low, high) {
  const span = high - low || 1;
  const magnitude = 10 ** Math.floor(Math.log10(span / 3));
  const step = [1, 2, 5, 10].map((n) => n * magnitude).find((s) => span / s <= 4) ?? 10 * magnitude;
  const out = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step / 1e6; v += step) out.push(v + 0); // no -0
  return out;
}

// drawSales draws rows {key: "YYYY-MM-DD", net, …} and returns their sum in words.
export function drawSales(box, rows) {
  const bars = rows.map((r) => ({ at: Date.parse(r.key + "T00:00:00Z"), net: Number(r.net), row: r })).filter((b) => !Number.isNaN(b.at));
  const paint = () => paintBars(box, bars);
  paint();
  box.onpointerleave = () => select(box, undefined);
  watch(box, paint);
  return money.format(bars.reduce((sum, b) => sum + b.net, 0));
}

let watched;

// watch paints again when the box gets another width.
function watch(box, paint) {
  watched?.disconnect();
  let width = box.clientWidth;
  watched = new ResizeObserver(() => {
    if (box.clientWidth !== width) {
      width = box.clientWidth;
      paint();
    }
  });
  watched.observe(box);
}

function paintBars(box, bars) {
  const width = Math.max(280, box.clientWidth);
  const svg = element("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Net sales of ${bars.length} days` });
  const slots = place(bars);
  const slot = (width - edge.left - edge.right) / slots;
  const low = Math.min(0, ...bars.map((b) => b.net));
  const high = Math.max(1, ...bars.map((b) => b.net));
  const y = (v) => edge.top + ((high - v) / (high - low)) * (height - edge.top - edge.bottom);
  const x = (n) => edge.left + n * slot;

  for (const v of steps(low, high)) {
    svg.append(element("line", { class: "grid", x1: edge.left, x2: width - edge.right, y1: y(v), y2: y(v) }));
    const label = element("text", { x: edge.left - 8, y: y(v) + 4, "text-anchor": "end" });
    label.textContent = compact.format(v);
    svg.append(label);
  }
  labelMonths(svg, bars, x, width);
  const thick = Math.max(1, slot * 0.78);
  for (const b of bars) {
    const top = Math.min(y(0), y(b.net));
    const bar = element("rect", {
      class: b.net < 0 ? "bar negative" : "bar", x: x(b.place) + (slot - thick) / 2, y: top,
      width: thick, height: Math.max(1, Math.abs(y(b.net) - y(0))), rx: Math.min(2, thick / 3),
    });
    b.bar = bar;
    svg.append(bar);
  }
  svg.onpointermove = (e) => {
    const across = ((e.clientX - svg.getBoundingClientRect().left) / svg.getBoundingClientRect().width) * width;
    const under = Math.floor((across - edge.left) / slot);
    select(box, bars.find((b) => b.place === under));
  };
  box.replaceChildren(svg);
}

// place gives each bar its slot and returns how many slots there are.
function place(bars) {
  let at = 0;
  bars.forEach((b, i) => {
    const gap = i ? Math.round((b.at - bars[i - 1].at) / day) : 0;
    b.cut = gap > longGap;
    at += b.cut ? cutGap : gap;
    b.place = at;
  });
  return Math.max(at + 1, fewest);
}

function labelMonths(svg, bars, x, width) {
  let free = 0;
  let last = "";
  for (const b of bars) {
    const month = months.format(b.at);
    if (b.cut) {
      const middle = x(b.place - (cutGap - 1) / 2);
      svg.append(element("line", { class: "cut", x1: middle, x2: middle, y1: edge.top, y2: height - edge.bottom }));
    }
    if (month === last) continue;
    last = month;
    const at = Math.min(x(b.place), width - 56);
    if (at < free) continue;
    const label = element("text", { x: at, y: height - 5 });
    label.textContent = month;
    svg.append(label);
    free = at + 72;
  }
}

let selected;

// select shows what a day sold, or nothing.
function select(box, bar) {
  if (selected === bar && bar) return;
  selected?.bar?.classList.remove("on");
  box.querySelector(".tip")?.remove();
  selected = bar;
  if (!bar) return;
  bar.bar.classList.add("on");
  const tip = document.createElement("div");
  tip.className = "tip";
  const net = document.createElement("b");
  net.textContent = money.format(bar.net);
  tip.append(days.format(bar.at), document.createElement("br"), net, document.createElement("br"),
    `${count(bar.row.units)} units, ${count(bar.row.documents)} papers`);
  box.append(tip);
  const rect = bar.bar.getBoundingClientRect();
  const left = rect.left - box.getBoundingClientRect().left;
  tip.style.left = `${Math.max(0, Math.min(box.clientWidth - tip.offsetWidth, left - tip.offsetWidth / 2))}px`;
}
