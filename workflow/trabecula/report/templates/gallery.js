// Filters over all cards, and reviewers' verdicts, for the pages of images; the pages are complete without it.
//
// CARDS (cards.js): [cohort, patient, study, overlay, device, decision, facts, flags, vertebrae] each, where all but
// patient, study and overlay are places in GALLERY.words; a fact or flag is [pattern, entry, ...]; a vertebra is
// [level, height in mm], or [level, height, level as segmented, thumbnail, verdict].
"use strict";

const WORDS = GALLERY.words;
const [COHORT, PATIENT, STUDY, OVERLAY, DEVICE, DECISION, FACTS, FLAGS, VERTEBRAE] = Array(9).keys();
const $ = (id) => document.getElementById(id);

function element(name, properties = {}, ...children) {
  const node = Object.assign(document.createElement(name), properties);
  node.append(...children);
  return node;
}

const lineText = ([pattern, ...entries]) => WORDS[pattern].replace(/\{(\d)\}/g, (_, i) => WORDS[entries[i]]);
const unpacked = ([level, z, segmentedAs = level, thumbnail = 1, verdict]) =>
  ({ level: WORDS[level], z: z ?? "", segmentedAs: WORDS[segmentedAs], thumbnail, verdict: WORDS[verdict] ?? "" });
// A pattern without its figures and levels: the name of a flag among the filters.
const heading = (pattern) => WORDS[pattern].replace(/\s*\(\{\d\}\)|:? \{\d\}( mg\/cm³)?/g, "");

// --- verdicts: kept in the browser, by study and level as segmented ---------------------------------

const STORAGE_KEY = `trabecula verdicts ${location.pathname.replace(/[^/]*$/, "")}`;
let browserKeeps = true;

function readVerdicts() {
  try {
    const stored = JSON.parse(localStorage.getItem(STORAGE_KEY) ?? "{}");
    localStorage.setItem(STORAGE_KEY, JSON.stringify(stored));
    return new Map(Object.entries(stored));
  } catch {
    browserKeeps = false;
    return new Map();
  }
}

const newVerdicts = readVerdicts();

function setVerdict(study, { level, z }, verdict, newLevel) {
  const key = `${study} ${level}`;
  if (verdict) newVerdicts.set(key, [verdict, newLevel, z]);
  else newVerdicts.delete(key);
  storeVerdicts();
}

function storeVerdicts() {
  try {
    localStorage.setItem(STORAGE_KEY, JSON.stringify(Object.fromEntries(newVerdicts)));
  } catch {
    browserKeeps = false;
  }
  showCount();
}

function showCount() {
  const where = browserKeeps
    ? "kept in this browser until you forget them"
    : "lost when you leave this page: save them first";
  const n = newVerdicts.size;
  $("given").textContent = n ? `${n} new ${n === 1 ? "verdict" : "verdicts"}, ${where}` : "No new verdict";
  $("forget").disabled = n === 0;
}

// The run's verdicts come first, so that the file can replace the one that the run read.
function verdictFile() {
  const lines = ["study_id,level,verdict,new_level,centroid_z_mm"];
  for (const card of CARDS)
    for (const bone of card[VERTEBRAE].map(unpacked))
      if (bone.verdict && !newVerdicts.has(`${card[STUDY]} ${bone.segmentedAs}`)) {
        const newLevel = bone.verdict === "relabel" || bone.level !== bone.segmentedAs ? bone.level : "";
        lines.push([card[STUDY], bone.segmentedAs, bone.verdict, newLevel, bone.z].join());
      }
  for (const [key, verdict] of newVerdicts) lines.push([...key.split(" "), ...verdict].join());
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

// Copied to hundreds of vertebrae; the list of cards listens to all of them at once.
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
  const [verdict, newLevel] = newVerdicts.get(`${study} ${tile.dataset.level}`) ?? ["", ""];
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
    setVerdict(study, tile.dataset, control.value && "relabel", control.value);
  } else if (event.type === "click") {
    setVerdict(study, tile.dataset, control.ariaPressed === "true" ? "" : control.value, "");
  }
  show(tile, study);
}

// --- cards --------------------------------------------------------------------------------------------

const blank = () => element("p", { className: "blank", textContent: "no image" });
const image = (src, alt) => element("img", { loading: "lazy", src, alt });

function vertebraOf(card, bone) {
  const [cohort, study] = [WORDS[card[COHORT]], card[STUDY]];
  const alt = `${bone.segmentedAs} of study ${study}, axial and sagittal, with the regions in which density was measured`;
  const name = element("p", { className: "name" }, element("b", { textContent: bone.level }));
  if (bone.segmentedAs !== bone.level)
    name.append(" ", element("span", { className: "soft", textContent: `segmented as ${bone.segmentedAs}` }));
  if (bone.verdict)
    name.append(" ", element("span", { className: `verdict ${bone.verdict}`, textContent: `reviewer: ${bone.verdict}` }));
  const thumbnail = bone.thumbnail ? image(`pictures/${cohort}/${study}_${bone.segmentedAs}.webp`, alt) : blank();
  const node = element("li", { className: "tile" }, thumbnail, name);
  Object.assign(node.dataset, { level: bone.segmentedAs, z: bone.z });
  return node;
}

function cardOf(card) {
  const [cohort, study] = [WORDS[card[COHORT]], card[STUDY]];
  const src = `pictures/${cohort}/${study}.webp`;
  const node = element("article", { className: "card", ariaLabel: `Study ${study}` });
  node.dataset.study = study;
  const alt = `Sagittal and coronal section of study ${study} with vertebrae outlined`;
  node.append(card[OVERLAY] ? element("a", { className: "scan", href: src }, image(src, alt)) : blank());
  const ids = element("p", { className: "soft small" });
  if (GALLERY.synthetic) ids.append(element("span", { className: "tag", textContent: "SYNTHETIC" }), " ");
  ids.append(`${cohort}, study ${study}`);
  const items = (lines) => lines.map((line) => element("li", { textContent: lineText(line) }));
  const text = element("div", { className: "text" }, element("h2", { textContent: card[PATIENT] }), ids);
  text.append(element("ul", { className: "facts" }, ...items(card[FACTS])));
  if (card[FLAGS].length)
    text.append(element("ul", { className: "flags", ariaLabel: "Flags" }, ...items(card[FLAGS])));
  node.append(text);
  const vertebrae = card[VERTEBRAE].map((bone) => vertebraOf(card, unpacked(bone)));
  if (vertebrae.length) node.append(element("ul", { className: "tiles", ariaLabel: "Vertebrae" }, ...vertebrae));
  return node;
}

// --- filters ------------------------------------------------------------------------------------------

const form = $("filters");
const untouched = [...$("cards").children];
const VERDICTS = ["none", "accept", "reject", "relabel", "new"];
let matches = [];
let page = 0;

function choices(name, values) {
  form[name].append(new Option("all", ""), ...values.map(([value, text]) => new Option(text, value)));
}

function setUp() {
  const [flags, levels, devices, decisions] = [new Map(), new Set(), new Set(), new Set()];
  for (const card of CARDS) {
    for (const line of card[FLAGS]) flags.set(flagOf(line), (flags.get(flagOf(line)) ?? 0) + 1);
    for (const [level] of card[VERTEBRAE]) levels.add(level);
    devices.add(card[DEVICE]);
    decisions.add(card[DECISION]);
  }
  const sorted = (places) => [...places].map((place) => [place, WORDS[place]]).sort((a, b) => (a[1] < b[1] ? -1 : 1));
  const byOrder = (a, b) => GALLERY.levels.indexOf(a[1]) - GALLERY.levels.indexOf(b[1]);
  choices("flag", [...flags].sort().map(([text, n]) => [text, `${text}: ${n.toLocaleString("en")}`]));
  choices("level", sorted(levels).sort(byOrder));
  choices("device", sorted(devices));
  choices("decision", sorted(decisions));
  choices("verdict", VERDICTS.map((verdict) => [verdict, verdict === "new" ? "new, given on these pages" : verdict]));
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
  const newlyJudged = new Set([...newVerdicts.keys()].map((key) => key.split(" ")[0]));
  const judged = (card) => {
    if (verdict === "new") return newlyJudged.has(card[STUDY]);
    const verdicts = card[VERTEBRAE].filter((bone) => bone.length > 2).map((bone) => WORDS[bone[4]]);
    return verdict === "none" ? verdicts.every((text) => !text) : verdicts.includes(verdict);
  };
  return CARDS.filter(
    (card) =>
      (!text || card[PATIENT].toLowerCase().includes(text) || card[STUDY].toLowerCase().includes(text)) &&
      (!device || card[DEVICE] === Number(device)) &&
      (!decision || card[DECISION] === Number(decision)) &&
      (!level || card[VERTEBRAE].some((bone) => bone[0] === Number(level))) &&
      (!flag || card[FLAGS].some(flagged)) &&
      (!verdict || judged(card)),
  );
}

function filter() {
  const active = [...form.elements].some((field) => field.value);
  $("static").hidden = $("below").hidden = active;
  $("turn").hidden = !active;
  if (active) {
    matches = matching();
    page = 0;
    turn();
    $("found").textContent = `${matches.length.toLocaleString("en")} of ${CARDS.length.toLocaleString("en")} studies found`;
  } else {
    $("cards").replaceChildren(...untouched);
    $("found").textContent = "";
    judge();
  }
}

function turn(by = 0) {
  const pages = Math.max(Math.ceil(matches.length / GALLERY.perPage), 1);
  page = Math.min(Math.max(page + by, 0), pages - 1);
  const start = page * GALLERY.perPage;
  $("cards").replaceChildren(...matches.slice(start, start + GALLERY.perPage).map(cardOf));
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
  newVerdicts.clear();
  storeVerdicts();
  judge();
};
showCount();
if ([...form.elements].some((field) => field.value)) filter();
else judge();
