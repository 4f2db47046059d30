// Words and numbers as people read them.
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });

// find returns the element with an id.
export const find = (id) => document.getElementById(id);

// count writes a number, which may come as a string of digits: JSON has 64-bit numbers as strings.
export const count = (n) => whole.format(typeof n === "string" ? BigInt(n) : n ?? 0);

export const fraction = (n) => tenths.format(n ?? 0);

// text replaces the text of an element, if it is another.
export function text(id, words) {
  const element = find(id);
  if (element.textContent !== String(words)) element.textContent = words;
}

// age writes a number of seconds.
export function age(seconds) {
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}
