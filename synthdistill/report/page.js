"use strict";
// The browser of examples. Everything shown is set as text; nothing here makes markup out of data.
(() => {
  const PAGE = 10;
  const LONG = 1000; // characters of a prompt that may scroll
  const WIDE = 6; // answers that fit side by side
  const { shows, rows } = JSON.parse(document.getElementById("data").textContent);
  const narrow = matchMedia("screen and (max-width: 52rem)");
  const at = (id) => document.getElementById(id);
  const [search, slice, which, list] = ["search", "slice", "which", "list"].map(at);
  const haystacks = rows.map((row) =>
    [row.id, row.prompt, ...row.fields.flatMap((field) => [field.name, ...field.cells.map((cell) => cell[0])])].join("\n").toLowerCase(),
  );
  let found = rows;
  let first = 0;

  const element = (name, className, text) => {
    const made = document.createElement(name);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const number = (value) => value.toLocaleString("en");
  const option = (value, text) => {
    const made = element("option", "", text);
    made.value = value;
    return made;
  };

  const fillControls = () => {
    const counts = new Map();
    for (const row of rows) for (const name of row.slices) counts.set(name, (counts.get(name) || 0) + 1);
    slice.append(option("", "all slices"));
    for (const name of [...counts.keys()].sort()) slice.append(option(name, `${name} (${number(counts.get(name))})`));
    slice.parentElement.hidden = counts.size === 0;
    which.append(option("", `all examples (${number(rows.length)})`));
    for (const [name, text] of shows) which.append(option(name, `${text} (${number(rows.filter((row) => row.is.includes(name)).length)})`));
  };

  const cell = (row, field, index) => {
    const [text, kind] = field.cells[index];
    const who = row.who[index];
    const made = element("td", `${kind}${field.differs[index] ? " differs" : ""}`);
    made.dataset.who = who;
    if (kind === "other") return made;
    const said = element("span", "said", text);
    said.dir = "auto";
    made.append(said);
    if (field.differs[index]) {
      const sign = element("span", "sign", "\u2260");
      sign.setAttribute("role", "img");
      sign.setAttribute("aria-label", `differs from ${row.who[0]}`);
      made.append(" ", sign);
    }
    return made;
  };

  const table = (row) => {
    const made = element("table", narrow.matches || row.who.length > WIDE ? "answers stacked" : "answers");
    const head = element("tr");
    head.append(element("td"));
    for (const who of row.who) {
      const name = element("th", "", who);
      name.scope = "col";
      if (row.notes[who]) name.append(element("span", "note", row.notes[who]));
      head.append(name);
    }
    const heads = element("thead");
    heads.append(head);
    const body = element("tbody");
    for (const field of row.fields) {
      const line = element("tr");
      const name = element("th", "", field.name);
      name.scope = "row";
      line.append(name, ...row.who.map((_, index) => cell(row, field, index)));
      body.append(line);
    }
    made.append(heads, body);
    return made;
  };

  const example = (row) => {
    const made = element("article");
    const head = element("p", "about");
    head.append(element("span", "id", row.id));
    for (const name of row.slices) head.append(element("span", "chip", name));
    const prompt = element("p", "prompt", row.prompt);
    prompt.dir = "auto";
    made.append(head, prompt, table(row));
    if (prompt.textContent.length > LONG) prompt.tabIndex = 0; // it scrolls
    for (const who of row.who) if (row.notes[who]) made.append(element("p", "note-line", `${who}: ${row.notes[who]}`));
    return made;
  };

  const draw = () => {
    const shown = found.slice(first, first + PAGE);
    list.replaceChildren(...shown.map(example));
    at("matches").textContent = `${number(found.length)} of ${number(rows.length)} examples match`;
    at("pager").hidden = found.length <= PAGE;
    at("where").textContent = `${number(first + 1)} to ${number(first + shown.length)} of ${number(found.length)}`;
    at("previous").disabled = first === 0;
    at("next").disabled = first + PAGE >= found.length;
  };

  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    found = rows.filter(
      (row, index) =>
        (!which.value || row.is.includes(which.value)) &&
        (!slice.value || row.slices.includes(slice.value)) &&
        words.every((word) => haystacks[index].includes(word)),
    );
    first = 0;
    draw();
  };

  const turn = (step) => {
    first += step;
    draw();
    at("matches").scrollIntoView({ block: "start" });
  };

  fillControls();
  at("controls").hidden = false;
  at("controls").addEventListener("submit", (event) => event.preventDefault());
  for (const control of [search, slice, which]) control.addEventListener("input", filter);
  at("previous").addEventListener("click", () => turn(-PAGE));
  at("next").addEventListener("click", () => turn(PAGE));
  narrow.addEventListener("change", draw);
  for (const link of document.querySelectorAll(".jump")) {
    link.addEventListener("click", () => {
      [search.value, which.value, slice.value] = ["", "", link.dataset.slice];
      filter();
    });
  }
  const folded = () => [...document.querySelectorAll("details:not([open])")];
  let unfolded = [];
  addEventListener("beforeprint", () => (unfolded = folded()).forEach((each) => (each.open = true)));
  addEventListener("afterprint", () => unfolded.forEach((each) => (each.open = false)));
  filter();
})();
