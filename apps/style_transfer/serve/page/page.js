// The page: everything it does goes through the HTTP API, version 1.
import { Painter } from "/paint.js";

const API = "/api/v1";
const $ = (id) => document.getElementById(id);
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const made = (tag, fields = {}) => Object.assign(document.createElement(tag), fields);

let limits = { bytes: Infinity, result_pixels: Infinity };
let photograph = null; // { file, url, width, height }, the last two 0 where the browser cannot show it
let style = null; // { name } of the gallery or { file }, and where its picture is
let running = null; // { stop: AbortController, id }
let shown = null; // the last job that was done
let painter = null;

function say(text, bad = false) {
  $("say").textContent = text;
  $("say").classList.toggle("bad", bad);
}

// What the server answers, or an Error with its one line.
async function ask(path, options = {}) {
  const answer = await fetch(API + path, options).catch((error) => {
    throw error.name === "AbortError" ? error : new Error("The server cannot be reached.");
  });
  if (answer.ok) return answer.json();
  const { error = "The server failed." } = await answer.json().catch(() => ({}));
  const plain = error.replace(/^\w+: /, "");
  throw Object.assign(new Error(plain[0].toUpperCase() + plain.slice(1) + "."), {
    again: answer.status === 503 ? Number(answer.headers.get("Retry-After") || 5) : 0,
  });
}

function measure(url) {
  const image = new Image();
  image.src = url;
  return image.decode().then(() => [image.naturalWidth, image.naturalHeight], () => [0, 0]);
}

function fits(file) {
  if (file.size <= limits.bytes) return true;
  say(`${file.name} has ${(file.size / 1e6).toFixed(0)} MB: a file may have ${limits.bytes / 1e6} MB here.`, true);
  return false;
}

async function choosePhotograph(file) {
  if (!file || !fits(file)) return;
  await forget();
  if (photograph) URL.revokeObjectURL(photograph.url);
  const url = URL.createObjectURL(file);
  const [width, height] = await measure(url);
  photograph = { file, url, width, height };
  $("frame").classList.remove("empty");
  $("change").hidden = false;
  $("compare").hidden = false;
  say("");
  $("unseen").textContent = width ? "" : `${file.name}: this browser cannot show it, the server may still read it`;
  show(width ? url : "");
  const longest = Math.max(width, height);
  const most = longest ? Math.min(longest, Math.floor(longest * Math.sqrt(limits.result_pixels / (width * height)))) : 2048;
  Object.assign($("size"), { min: Math.min(256, most), max: most });
  $("size").value = Math.min(most, 1600);
  $("format").value = { "image/jpeg": "jpeg", "image/webp": "webp", "image/tiff": "tiff" }[file.type] || "png";
  painter?.clear();
  painter = null;
  refresh();
}

function chooseStyle(choice, text) {
  style = choice;
  painter?.clear();
  painter = null;
  $("credit").textContent = text;
  $("own").classList.toggle("chosen", Boolean(choice.file));
  $("own").querySelector("img")?.remove();
  if (choice.file && choice.shown) $("own").append(made("img", { src: choice.picture, alt: "" }));
  refresh();
}

async function ownStyle(file) {
  if (!file || !fits(file)) return;
  for (const radio of document.querySelectorAll('#styles input[type="radio"]')) radio.checked = false;
  const picture = URL.createObjectURL(file);
  const [width] = await measure(picture);
  chooseStyle({ file, picture, shown: width > 0 }, file.name);
}

function show(src, before = "") {
  $("after").src = src;
  $("after").hidden = !src;
  $("unseen").hidden = Boolean(src);
  if (before) $("before").src = before;
  for (const part of [$("before"), $("split"), ...document.querySelectorAll(".tag")]) part.hidden = !before;
  $("compare").classList.toggle("split", Boolean(before));
}

function refresh() {
  const percent = (id) => `${Math.round(100 * $(id).value)} %`;
  const texts = { alpha: percent("alpha"), photo: percent("photo"), style_scale: `${Number($("style_scale").value)} ×` };
  texts.size = photograph ? `${$("size").value} pixels` : "";
  if (photograph?.width) {
    const scale = $("size").value / Math.max(photograph.width, photograph.height);
    texts.size = [photograph.width, photograph.height].map((side) => Math.round(scale * side)).join(" × ");
  }
  for (const [id, text] of Object.entries(texts)) document.querySelector(`output[for="${id}"]`).textContent = text;
  $("go").disabled = Boolean(running) || !photograph || !style;
  $("go").textContent = running ? "Working…" : shown ? "Again" : "Restyle";
  $("cancel").hidden = !running;
  $("download").hidden = Boolean(running) || !shown;
  $("act").classList.toggle("done", !$("download").hidden);
  $("paint").disabled = !photograph?.width || !style || (style.file && !style.shown);
  $("paint").textContent = painter?.painted ? "Painted: change them…" : "Paint them…";
}

async function order() {
  const form = new FormData();
  form.append("content", photograph.file);
  form.append("style", style.file || style.name);
  for (const id of ["alpha", "photo", "style_scale", "preserve_color", "format"]) form.append(id, $(id).value);
  const longest = Math.max(photograph.width, photograph.height);
  if (Number($("size").value) !== longest) form.append("size", $("size").value);
  if (painter?.painted) {
    const [ours, theirs] = await painter.masks();
    form.append("content_mask", ours, "mask.png");
    if (theirs) form.append("style_mask", theirs, "mask.png");
  }
  return form;
}

// Send the order, as often as the server is too busy for it.
async function submit(signal) {
  const body = await order();
  for (;;) {
    say("Sending…");
    try {
      return await ask("/jobs", { method: "POST", body, signal });
    } catch (error) {
      if (!error.again) throw error;
      for (let left = error.again; left > 0 && !signal.aborted; left--) {
        say(`The server is busy: trying again in ${left} s.`);
        await sleep(1000);
      }
      signal.throwIfAborted();
    }
  }
}

const pictureOf = (job, step) => `${API}/jobs/${job.id}/preview?step=${step}`;

function addSteps(job) {
  for (let step = $("steps").children.length; step <= job.step; step++) {
    const button = made("button", { type: "button" });
    const image = made("img", { src: pictureOf(job, step), alt: "" });
    button.append(image, step ? `step ${step}` : "before");
    button.onclick = () => look(job, step);
    const item = made("li");
    item.append(button);
    $("steps").append(item);
    if (step) show(pictureOf(job, step));
    mark(step);
    $("steps").scrollLeft = $("steps").scrollWidth;
  }
}

function mark(step) {
  [...$("steps").children].forEach((item, i) => item.firstChild.setAttribute("aria-pressed", String(i === step)));
}

function look(job, step) {
  mark(step);
  show(pictureOf(job, step), step && !running ? pictureOf(job, 0) : "");
}

async function restyle(event) {
  event.preventDefault();
  if (running || !photograph || !style) return;
  await forget();
  running = { stop: new AbortController(), id: null };
  const { signal } = running.stop;
  $("frame").scrollIntoView({ block: "nearest", behavior: "smooth" });
  $("veil").hidden = false;
  $("bar").removeAttribute("value");
  refresh();
  try {
    let job = await submit(signal);
    running.id = job.id;
    while (["queued", "running"].includes(job.state)) {
      addSteps(job);
      if (job.step >= 0) Object.assign($("bar"), { max: job.steps, value: job.step });
      if (job.state === "queued") say(job.ahead > 1 ? `Waiting: ${job.ahead} pictures come first.` : "Waiting for the picture before.");
      else say(job.step < 0 ? "Reading the photograph and the style…" : `Step ${Math.min(job.step + 1, job.steps)} of ${job.steps}…`);
      await sleep(350);
      signal.throwIfAborted();
      job = await ask(`/jobs/${job.id}`, { signal });
    }
    running.id = null;
    if (job.state === "failed") throw new Error(job.message[0].toUpperCase() + job.message.slice(1) + ".");
    if (job.state === "cancelled") throw new DOMException("", "AbortError");
    addSteps(job);
    shown = job;
    running = null;
    look(job, job.steps);
    Object.assign($("download"), { href: `${API}/jobs/${job.id}/result`, download: job.name });
    say(`${job.width} × ${job.height}, ${(job.bytes / 1e6).toFixed(1)} MB, in ${job.seconds.toFixed(1)} s.`);
  } catch (error) {
    $("steps").replaceChildren();
    show(photograph.width ? photograph.url : "");
    if (error.name === "AbortError") say("Cancelled.");
    else say(error.message, true);
  }
  running = null;
  $("veil").hidden = true;
  refresh();
}

function cancel() {
  if (!running) return;
  running.stop.abort();
  if (running.id) fetch(`${API}/jobs/${running.id}`, { method: "DELETE", keepalive: true }).catch(() => {});
}

// The server need keep nothing that the page does not show.
async function forget() {
  cancel();
  if (shown) fetch(`${API}/jobs/${shown.id}`, { method: "DELETE", keepalive: true }).catch(() => {});
  shown = null;
  $("steps").replaceChildren();
  if (photograph) show(photograph.width ? photograph.url : "");
  say("");
}

async function listStyles() {
  for (const entry of await ask("/styles")) {
    const tile = made("label", { className: "style", title: `${entry.title}, ${entry.credit}` });
    const radio = made("input", { type: "radio", name: "named", value: entry.name, ariaLabel: entry.title });
    radio.onchange = () => chooseStyle({ name: entry.name, picture: entry.picture }, tile.title);
    tile.append(radio, made("img", { src: entry.picture, alt: "", loading: "lazy" }));
    $("styles").append(tile);
  }
}

async function openPainter() {
  painter ||= new Painter($("painter"), photograph.url, style.picture);
  await painter.open();
  refresh();
}

$("content").onchange = (event) => choosePhotograph(event.target.files[0]).then(() => (event.target.value = ""));
$("change").onclick = () => $("content").click();
$("style").onchange = (event) => ownStyle(event.target.files[0]).then(() => (event.target.value = ""));
$("panel").onsubmit = restyle;
$("panel").oninput = refresh;
$("cancel").onclick = cancel;
$("paint").onclick = openPainter;
$("split").oninput = (event) => $("compare").style.setProperty("--split", `${event.target.value}%`);
for (const kind of ["dragover", "dragleave", "drop"])
  addEventListener(kind, (event) => {
    event.preventDefault();
    $("frame").classList.toggle("over", kind === "dragover");
    if (kind === "drop") choosePhotograph(event.dataTransfer.files[0]);
  });
addEventListener("pagehide", (event) => event.persisted || cancel());

ask("/health").then((health) => (limits = health.limits)).then(listStyles).catch((error) => say(error.message, true));
refresh();
