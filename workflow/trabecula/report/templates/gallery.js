// Filters over all cards, and reviewers' verdicts, for the pages of pictures; the pages are whole without it.
//
// CARDS (cards.js): [cohort, patient, study, picture, device, decision, facts, flags, tiles] each, where all but patient,
// study and picture are places in GALLERY.words; a fact or flag is [pattern, entry, ...]; a tile is [level, height in mm],
// or [level, height, level as segmented, picture, verdict].
"use strict";

const WORDS = GALLERY.words;
const [COHORT, PATIENT, STUDY, PICTURE, DEVICE, DECISION, FACTS, FLAGS, TILES] = Array(9).keys();
const $ = (id) => document.getElementById(id);

function element(name, given = {}, ...children) {
  const made = Object.assign(document.createElement(name), given);
  made.append(...children);
  return made;
}

const words = ([pattern, ...entries]) => WORDS[pattern].replace(/\{(\d)\}/g, (_, i) => WORDS[entries[i]]);
const unpacked = ([level, z, found = level, picture = 1, verdict]) =>
  ({ level: WORDS[level], z: z ?? "", found: WORDS[found], picture, verdict: WORDS[verdict] ?? "" });
// What a pattern says before figures and levels are put in: its name among the filters.
const heading = (pattern) => WORDS[pattern].replace(/\s*\(\{\d\}\)|:? \{\d\}( mg\/cm³)?/g, "");

// --- verdicts: kept in the browser, by study and level as segmented ---------------------------------

const KEPT_AS = `trabecula verdicts ${location.pathname.replace(/[^/]*$/, "")}`;
let keeps = true;

function recalled() {
  try {
    const known = JSON.parse(localStorage.getItem(KEPT_AS) ?? "{}");
    localStorage.setItem(KEPT_AS, JSON.stringify(known));
    return new Map(Object.entries(known));
  } catch {
    keeps = false;
    return new Map();
  }
}

const given = recalled();

function give(study, { level, z }, verdict, newLevel) {
  const key = `${study} ${level}`;
  if (verdict) given.set(key, [verdict, newLevel, z]);
  else given.delete(key);
  remember();
}

function remember() {
  try {
    localStorage.setItem(KEPT_AS, JSON.stringify(Object.fromEntries(given)));
  } catch {
    keeps = false;
  }
  tell();
}

function tell() {
  const where = keeps ? "kept in this browser until they are forgotten" : "lost when this page is left: save them before";
  const n = given.size;
  $("given").textContent = n ? `${n} new ${n === 1 ? "verdict" : "verdicts"}, ${where}` : "No new verdict";
  $("forget").disabled = n === 0;
}

// The run's verdicts come first, so that the file takes the place of the one that the run read.
function verdictFile() {
  const lines = ["study_id,level,verdict,new_level,centroid_z_mm"];
  for (const card of CARDS)
    for (const tile of card[TILES].map(unpacked))
      if (tile.verdict && !given.has(`${card[STUDY]} ${tile.found}`)) {
        const newLevel = tile.verdict === "relabel" || tile.level !== tile.found ? tile.level : "";
        lines.push([card[STUDY], tile.found, tile.verdict, newLevel, tile.z].join());
      }
  for (const [key, told] of given) lines.push([...key.split(" "), ...told].join());
  return lines.join("\n") + "\n";
}

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([verdictFile()], { type: "text/csv" }));
  link.download = "verdicts.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// --- a vertebra's buttons ---------------------------------------------------------------------------

// Copied into hundreds of tiles; what is pressed is found from the whole list of cards.
const BUTTONS = element(
  "div",
  { className: "judge", role: "group" },
  element("button", { type: "button", value: "accept", textContent: "Accept" }),
  element("button", { type: "button", value: "reject", textContent: "Reject" }),
  element("select", { className: "relabel" }, new Option("Relabel to …", "")),
);

function judge() {
  for (const card of document.querySelectorAll(".card"))
    for (const tile of card.querySelectorAll(".tile")) {
      if (!tile.querySelector(".judge")) tile.append(buttons(tile.dataset.level, card.dataset.study));
      show(tile, card.dataset.study);
    }
}

function buttons(level, study) {
  const box = BUTTONS.cloneNode(true);
  const [accept, reject, relabel] = box.children;
  box.ariaLabel = `Verdict on ${level} of ${study}`;
  [accept.ariaLabel, reject.ariaLabel, relabel.ariaLabel] = [`Accept ${level}`, `Reject ${level}`, `Relabel ${level}`];
  return box;
}

function show(tile, study) {
  const [verdict, newLevel] = given.get(`${study} ${tile.dataset.level}`) ?? ["", ""];
  const [accept, reject, relabel] = tile.querySelector(".judge").children;
  accept.ariaPressed = String(verdict === "accept");
  reject.ariaPressed = String(verdict === "reject");
  if (newLevel && relabel.length === 1) fill(relabel, tile.dataset.level);
  relabel.value = newLevel;
  relabel.classList.toggle("chosen", Boolean(newLevel));
}

// Twenty names in each of hundreds of lists are slow: a list gets them when it is used.
function fill(list, level) {
  if (list.length === 1)
    list.append(...GALLERY.levels.filter((name) => name !== level).map((name) => new Option(name, name)));
}

function pressed(event) {
  const control = event.target.closest(".judge button, .judge select");
  if (!control) return;
  const [tile, card] = [control.closest(".tile"), control.closest(".card")];
  const [level, study] = [tile.dataset.level, card.dataset.study];
  if (control.matches("select")) {
    if (event.type !== "change") return fill(control, level);
    give(study, tile.dataset, control.value && "relabel", control.value);
  } else if (event.type === "click") {
    give(study, tile.dataset, control.ariaPressed === "true" ? "" : control.value, "");
  }
  show(tile, study);
}

// --- cards --------------------------------------------------------------------------------------------

const blank = () => element("p", { className: "blank", textContent: "no picture" });
const picture = (src, alt) => element("img", { loading: "lazy", src, alt });

function tileOf(card, tile) {
  const [cohort, study] = [WORDS[card[COHORT]], card[STUDY]];
  const alt = `${tile.found} of study ${study}, axial and sagittal, with the regions that density was read from`;
  const name = element("p", { className: "name" }, element("b", { textContent: tile.level }));
  if (tile.found !== tile.level)
    name.append(" ", element("span", { className: "soft", textContent: `segmented as ${tile.found}` }));
  if (tile.verdict)
    name.append(" ", element("span", { className: `verdict ${tile.verdict}`, textContent: `reviewer: ${tile.verdict}` }));
  const image = tile.picture ? picture(`pictures/${cohort}/${study}_${tile.found}.webp`, alt) : blank();
  const made = element("li", { className: "tile" }, image, name);
  Object.assign(made.dataset, { level: tile.found, z: tile.z });
  return made;
}

function cardOf(card) {
  const [cohort, study] = [WORDS[card[COHORT]], card[STUDY]];
  const src = `pictures/${cohort}/${study}.webp`;
  const made = element("article", { className: "card", ariaLabel: `Study ${study}` });
  made.dataset.study = study;
  const alt = `Sagittal and coronal section of study ${study} with vertebrae outlined`;
  made.append(card[PICTURE] ? element("a", { className: "scan", href: src }, picture(src, alt)) : blank());
  const ids = element("p", { className: "soft small" });
  if (GALLERY.synthetic) ids.append(element("span", { className: "tag", textContent: "SYNTHETIC" }), " ");
  ids.append(`${cohort}, study ${study}`);
  const lines = (of) => of.map((line) => element("li", { textContent: words(line) }));
  const text = element("div", { className: "text" }, element("h2", { textContent: card[PATIENT] }), ids);
  text.append(element("ul", { className: "facts" }, ...lines(card[FACTS])));
  if (card[FLAGS].length)
    text.append(element("ul", { className: "flags", ariaLabel: "Flags" }, ...lines(card[FLAGS])));
  made.append(text);
  const tiles = card[TILES].map((tile) => tileOf(card, unpacked(tile)));
  if (tiles.length) made.append(element("ul", { className: "tiles", ariaLabel: "Vertebrae" }, ...tiles));
  return made;
}

// --- filters ------------------------------------------------------------------------------------------

const form = $("filters");
const untouched = [...$("cards").children];
const VERDICTS = ["none", "accept", "reject", "relabel", "new"];
let found = [];
let page = 0;

function choices(name, values) {
  form[name].append(new Option("all", ""), ...values.map(([value, text]) => new Option(text, value)));
}

function setUp() {
  const [flags, levels, devices, decisions] = [new Map(), new Set(), new Set(), new Set()];
  for (const card of CARDS) {
    for (const line of card[FLAGS]) flags.set(flagOf(line), (flags.get(flagOf(line)) ?? 0) + 1);
    for (const [level] of card[TILES]) levels.add(level);
    devices.add(card[DEVICE]);
    decisions.add(card[DECISION]);
  }
  const sorted = (places) => [...places].map((place) => [place, WORDS[place]]).sort((a, b) => (a[1] < b[1] ? -1 : 1));
  const byOrder = (a, b) => GALLERY.levels.indexOf(a[1]) - GALLERY.levels.indexOf(b[1]);
  choices("flag", [...flags].sort().map(([text, n]) => [text, `${text}: ${n.toLocaleString("en")}`]));
  choices("level", sorted(levels).sort(byOrder));
  choices("device", sorted(devices));
  choices("decision", sorted(decisions));
  choices("verdict", VERDICTS.map((one) => [one, one === "new" ? "new, given here" : one]));
}

const flagOf = ([pattern, first]) => (WORDS[pattern] === "{0}: {1}" ? WORDS[first] : heading(pattern));

function matching() {
  const [text, flag, verdict] = [form.text.value.trim().toLowerCase(), form.flag.value, form.verdict.value];
  const [level, device, decision] = [form.level.value, form.device.value, form.decision.value];
  const fits = new Map();
  const flagged = (line) => {
    const key = `${line[0]} ${WORDS[line[0]] === "{0}: {1}" ? line[1] : ""}`;
    if (!fits.has(key)) fits.set(key, flagOf(line) === flag);
    return fits.get(key);
  };
  const news = new Set([...given.keys()].map((key) => key.split(" ")[0]));
  const decided = (card) => {
    if (verdict === "new") return news.has(card[STUDY]);
    const told = card[TILES].filter((tile) => tile.length > 2).map((tile) => WORDS[tile[4]]);
    return verdict === "none" ? told.every((one) => !one) : told.includes(verdict);
  };
  return CARDS.filter(
    (card) =>
      (!text || card[PATIENT].toLowerCase().includes(text) || card[STUDY].toLowerCase().includes(text)) &&
      (!device || card[DEVICE] === Number(device)) &&
      (!decision || card[DECISION] === Number(decision)) &&
      (!level || card[TILES].some((tile) => tile[0] === Number(level))) &&
      (!flag || card[FLAGS].some(flagged)) &&
      (!verdict || decided(card)),
  );
}

function filter() {
  const active = [...form.elements].some((one) => one.value);
  $("static").hidden = $("below").hidden = active;
  $("turn").hidden = !active;
  if (active) {
    found = matching();
    page = 0;
    turn();
    $("found").textContent = `${found.length.toLocaleString("en")} of ${CARDS.length.toLocaleString("en")} studies found`;
  } else {
    $("cards").replaceChildren(...untouched);
    $("found").textContent = "";
    judge();
  }
}

function turn(by = 0) {
  const pages = Math.max(Math.ceil(found.length / GALLERY.perPage), 1);
  page = Math.min(Math.max(page + by, 0), pages - 1);
  const start = page * GALLERY.perPage;
  $("cards").replaceChildren(...found.slice(start, start + GALLERY.perPage).map(cardOf));
  $("place").textContent = `Page ${page + 1} of ${pages}`;
  $("previous").disabled = page === 0;
  $("next").disabled = page === pages - 1;
  judge();
}

setUp();
$("tools").hidden = false;
form.oninput = filter;
form.onsubmit = (event) => event.preventDefault();
form.onreset = () => setTimeout(filter);
for (const kind of ["click", "change", "focusin", "pointerdown"]) $("cards").addEventListener(kind, pressed);
$("previous").onclick = () => turn(-1);
$("next").onclick = () => turn(1);
$("save").onclick = save;
$("forget").onclick = () => {
  given.clear();
  remember();
  judge();
};
tell();
if ([...form.elements].some((one) => one.value)) filter();
else judge();
