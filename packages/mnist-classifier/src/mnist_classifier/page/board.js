// The board: strokes, a picture from a file, or an example, sent as PNG after every change.
const canvas = element.querySelector("canvas");
const paper = canvas.getContext("2d", { willReadFrequently: true });
const hint = element.querySelector(".hint");
const problem = element.querySelector(".problem");
const side = canvas.width;
let last = null;

function blank() {
  paper.setTransform(1, 0, 0, 1, 0, 0);
  paper.fillStyle = "#fff";
  paper.fillRect(0, 0, side, side);
  paper.strokeStyle = "#111827";
  paper.lineCap = paper.lineJoin = "round";
  paper.lineWidth = 0.09 * side;
  problem.hidden = true;
}

function send(drawing) {
  hint.hidden = drawing !== "";
  props.value = drawing;
  trigger("input");
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.left) * side) / box.width, ((event.clientY - box.top) * side) / box.height];
}

function drawTo(point) {
  paper.beginPath();
  paper.moveTo(...last);
  paper.lineTo(...point);
  paper.stroke();
  last = point;
}

canvas.addEventListener("pointerdown", (event) => {
  if (!event.isPrimary || event.button !== 0) return;
  event.preventDefault();
  canvas.setPointerCapture(event.pointerId);
  hint.hidden = true;
  last = place(event);
  drawTo(last);
});
canvas.addEventListener("pointermove", (event) => {
  if (last === null || !event.isPrimary) return;
  // A browser reports a quick finger's places together, once a frame.
  const places = event.getCoalescedEvents?.() ?? [];
  for (const one of places.length ? places : [event]) drawTo(place(one));
});
for (const end of ["pointerup", "pointercancel"]) {
  canvas.addEventListener(end, (event) => {
    if (last === null || !event.isPrimary) return;
    last = null;
    send(canvas.toDataURL("image/png"));
  });
}

element.querySelector(".clear").addEventListener("click", () => {
  blank();
  send("");
});

for (const example of element.querySelectorAll(".example")) {
  example.addEventListener("click", () => {
    blank();
    paper.setTransform(side / 100, 0, 0, side / 100, 0, 0);
    paper.lineWidth = 9;
    paper.stroke(new Path2D(example.dataset.strokes));
    const drawing = canvas.toDataURL("image/png");
    paper.setTransform(1, 0, 0, 1, 0, 0);
    paper.lineWidth = 0.09 * side;
    send(drawing);
  });
}

function open(file) {
  const picture = new Image();
  const address = URL.createObjectURL(file);
  picture.onload = () => {
    blank();
    const scale = side / Math.max(picture.width, picture.height);
    const [width, height] = [picture.width * scale, picture.height * scale];
    // What the picture leaves free is filled with the colour of its corner, so that it does not look like ink.
    paper.drawImage(picture, 0, 0, 1, 1, 0, 0, side, side);
    paper.drawImage(picture, (side - width) / 2, (side - height) / 2, width, height);
    URL.revokeObjectURL(address);
    send(canvas.toDataURL("image/png"));
  };
  picture.onerror = () => {
    URL.revokeObjectURL(address);
    problem.textContent = "This file is not a picture that the browser can show · 浏览器无法显示此文件";
    problem.hidden = false;
  };
  picture.src = address;
}

const chooser = element.querySelector("input");
chooser.addEventListener("change", () => {
  if (chooser.files.length) open(chooser.files[0]);
  chooser.value = "";
});
const board = element.querySelector(".board");
board.addEventListener("dragover", (event) => event.preventDefault());
board.addEventListener("drop", (event) => {
  event.preventDefault();
  if (event.dataTransfer.files.length) open(event.dataTransfer.files[0]);
});
blank();
