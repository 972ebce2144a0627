// A text area with line numbers, and its text coloured beneath it.

const WORDS = {
  c: "auto break case char const continue default do double else enum extern float for goto if inline int long register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while bool true false NULL uint8_t uint16_t uint32_t uint64_t int32_t int64_t size_t #include #define #ifdef #ifndef #endif #if #else #pragma",
  rust: "as async await break const continue crate dyn else enum extern false fn for if impl in let loop match mod move mut pub ref return self Self static struct super trait true type unsafe use where while u8 u16 u32 u64 i32 i64 usize str String Vec Option Some None Ok Err",
  ts: "as break case class const continue declare default do else enum export extends false for from function if import in instanceof let new null of return static super switch this throw true try type typeof var void while i32 i64 u32 u64 f32 f64 u8 u16 string bool usize",
  wat: "module func param result local global memory table elem data type import export start block loop if then else end mut offset funcref externref i32 i64 f32 f64 v128 call call_indirect br br_if br_table return drop select unreachable nop",
};
const LANGUAGES = { c: "c", h: "c", rs: "rust", ts: "ts", js: "ts", wat: "wat" };
const COMMENTS = { c: /\/\/[^\n]*|\/\*[^]*?(?:\*\/|$)/y, rust: /\/\/[^\n]*|\/\*[^]*?(?:\*\/|$)/y, ts: /\/\/[^\n]*|\/\*[^]*?(?:\*\/|$)/y, wat: /;;[^\n]*|\(;[^]*?(?:;\)|$)/y };
const STRING = /"(?:[^"\\\n]|\\.)*"?|'(?:[^'\\\n]|\\.)'|`[^`]*`?/y;
const NUMBER = /0x[0-9a-fA-F_]+|\d[\d_]*(?:\.\d+)?(?:e[+-]?\d+)?/y;
const WORD = /[#$@A-Za-z_][\w.$#-]*/y;
const PLAIN_WORD = /#?[A-Za-z_]\w*/y;

const escaped = (text) => text.replace(/[&<>]/g, (one) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[one]);

function coloured(text, language) {
  const words = new Set((WORDS[language] ?? "").split(" "));
  const word = language === "wat" ? WORD : PLAIN_WORD;
  const parts = [];
  let plain = "";
  const take = (kind, token) => {
    if (plain) parts.push(escaped(plain));
    plain = "";
    parts.push(`<span class="${kind}">${escaped(token)}</span>`);
  };
  for (let at = 0; at < text.length; ) {
    const found = (pattern) => {
      if (!pattern) return null;
      pattern.lastIndex = at;
      return pattern.exec(text)?.[0] ?? null;
    };
    let token;
    if ((token = found(COMMENTS[language]))) take("c", token);
    else if ((token = found(STRING))) take("s", token);
    else if ((token = found(NUMBER))) take("n", token);
    else if ((token = found(word))) {
      if (words.has(token)) take("k", token);
      else if (token[0] === "$" || text[at + token.length] === "(" || (language === "wat" && token.includes("."))) take("f", token);
      else plain += token;
    } else plain += token = text[at];
    at += token.length;
  }
  return parts.join("") + escaped(plain) + "\n";
}

export class Editor {
  constructor(parent, changed) {
    parent.innerHTML = '<div class="gutter" aria-hidden="true"></div><pre aria-hidden="true"></pre><textarea spellcheck="false" autocapitalize="off" autocomplete="off" aria-label="Source"></textarea>';
    [this.gutter, this.shown, this.area] = parent.children;
    this.changed = changed;
    this.bad = new Set();
    this.area.addEventListener("input", () => { this.bad.clear(); this.#draw(); changed(this.area.value); });
    this.area.addEventListener("scroll", () => this.#scroll());
    this.area.addEventListener("keydown", (event) => this.#key(event));
  }

  open(name, text) {
    this.language = LANGUAGES[name.split(".").pop()] ?? "";
    this.bad.clear();
    this.area.value = text;
    this.area.setSelectionRange(0, 0);
    this.#draw();
    this.area.scrollTop = 0;
  }

  mark(lines) {
    this.bad = new Set(lines);
    this.#draw();
    const first = Math.min(...lines);
    if (Number.isFinite(first)) this.area.scrollTop = Math.max(0, (first - 5) * 19.5);
  }

  #key(event) {
    if (event.key !== "Tab" || event.ctrlKey || event.altKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    document.execCommand("insertText", false, "    ");  // which can be undone
  }

  #draw() {
    const text = this.area.value;
    this.shown.innerHTML = text.length < 200000 ? coloured(text, this.language) : escaped(text);
    const count = text.split("\n").length;
    const numbers = [];
    for (let line = 1; line <= count; line++) numbers.push(this.bad.has(line) ? `<span class="bad">${line}</span>` : line);
    this.gutter.innerHTML = numbers.join("\n");
    this.#scroll();
  }

  #scroll() {
    this.shown.scrollTop = this.gutter.scrollTop = this.area.scrollTop;
    this.shown.scrollLeft = this.area.scrollLeft;
  }
}
