// Painting regions: two canvases over two pictures, one palette. The colours are those the server knows regions by.
const COLOURS = { red: "#ff0000", green: "#00ff00", blue: "#0000ff", yellow: "#ffff00" };
const LONGEST = 768;

export class Painter {
  constructor(dialog, content, style) {
    this.dialog = dialog;
    this.colour = "red";
    this.sides = ["paint-content", "paint-style"].map((id, i) => {
      const canvas = dialog.querySelector(`#${id}`);
      const image = canvas.previousElementSibling;
      image.src = [content, style][i];
      return { canvas, image, painted: false, fresh: true };
    });
    dialog.querySelector("#clear").onclick = () => this.clear();
    this.palette();
    for (const side of this.sides) this.listen(side);
  }

  get painted() {
    return this.sides[0].painted;
  }

  // Show the dialog until it is closed.
  async open() {
    this.dialog.showModal();
    for (const side of this.sides) {
      if (!side.fresh) continue;
      await side.image.decode();
      const { naturalWidth: w, naturalHeight: h } = side.image;
      const scale = Math.min(1, LONGEST / Math.max(w, h));
      Object.assign(side.canvas, { width: Math.round(scale * w), height: Math.round(scale * h) });
      side.fresh = false;
    }
    await new Promise((resolve) => (this.dialog.onclose = resolve));
  }

  clear() {
    for (const side of this.sides) {
      side.canvas.getContext("2d").clearRect(0, 0, side.canvas.width, side.canvas.height);
      side.painted = false;
    }
  }

  // The two masks as PNG, the second null where nothing is painted on the style.
  masks() {
    return Promise.all(this.sides.map((side) => (side.painted ? this.blob(side.canvas) : null)));
  }

  blob(canvas) {
    const flat = Object.assign(document.createElement("canvas"), { width: canvas.width, height: canvas.height });
    const pen = flat.getContext("2d");
    pen.fillRect(0, 0, flat.width, flat.height);
    pen.drawImage(canvas, 0, 0);
    return new Promise((resolve) => flat.toBlob(resolve, "image/png"));
  }

  palette() {
    const place = this.dialog.querySelector("#colours");
    place.replaceChildren();
    for (const name of [...Object.keys(COLOURS), "eraser"]) {
      const button = document.createElement("button");
      Object.assign(button, { type: "button", title: name, ariaLabel: name, textContent: name === "eraser" ? "⌫" : "" });
      if (name === "eraser") button.className = "quiet";
      else button.style.background = COLOURS[name];
      button.onclick = () => {
        this.colour = name;
        for (const other of place.children) other.setAttribute("aria-pressed", String(other === button));
      };
      button.setAttribute("aria-pressed", String(name === this.colour));
      place.append(button);
    }
  }

  listen(side) {
    const { canvas } = side;
    let last = null;
    const at = (event) => {
      const box = canvas.getBoundingClientRect();
      return [((event.clientX - box.left) * canvas.width) / box.width, ((event.clientY - box.top) * canvas.height) / box.height];
    };
    const stroke = (event) => {
      const pen = canvas.getContext("2d");
      const erasing = this.colour === "eraser";
      Object.assign(pen, { lineCap: "round", lineJoin: "round", strokeStyle: COLOURS[this.colour] || "#000" });
      pen.lineWidth = (Number(this.dialog.querySelector("#brush").value) * canvas.width) / canvas.getBoundingClientRect().width;
      pen.globalCompositeOperation = erasing ? "destination-out" : "source-over";
      pen.beginPath();
      pen.moveTo(...last);
      last = at(event);
      pen.lineTo(...last);
      pen.stroke();
      side.painted ||= !erasing;
    };
    canvas.onpointerdown = (event) => {
      canvas.setPointerCapture(event.pointerId);
      last = at(event);
      stroke(event);
    };
    canvas.onpointermove = (event) => last && stroke(event);
    canvas.onpointerup = canvas.onpointercancel = () => (last = null);
  }
}
