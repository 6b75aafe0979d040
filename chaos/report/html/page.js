"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const SECOND = 1e4; // the data counts tenths of a millisecond
  const PAD = 6, RIGHT = 50, LINE = 15, GAP = 7; // pixels; the right margin holds the scales
  const STATES = { L: "leads", F: "follows", N: "knows no leader", X: "does not answer" };
  const GLYPHS = { "election": "E", "leader-elected": "L", "leader-lost": "l", "slow-apply": "s", "health": "h", "power": "P", "process": "p" };
  const RANK = ["leader-elected", "power", "leader-lost", "election", "process", "health", "slow-apply", "other"]; // who has room first
  const MINOR = new Set(["slow-apply", "other"]); // they give way to others
  const KINDS = [["ok", "ok"], ["fail", "failed"], ["unknown", "unknown"]];

  function make(parent, name, attributes, text) {
    const node = document.createElementNS(SVG, name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }
  function html(parent, name, attributes, text) {
    const node = document.createElement(name);
    for (const key in attributes) node.setAttribute(key, attributes[key]);
    if (text !== undefined) node.textContent = text;
    parent.append(node);
    return node;
  }
  const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
  const at = (t) => (t / SECOND).toFixed(3) + " s";
  const long = (t) => t >= SECOND ? (t / SECOND).toFixed(2) + " s" : (t / 10).toFixed(1) + " ms";

  /** Instants worth going to, by time, each with words. */
  function stopsOf(data) {
    const stops = [];
    for (const fault of data.faults) {
      const named = fault.name + " on " + fault.target;
      if (fault.begun < fault.from) stops.push([fault.begun, named + " is being made at " + fault.place + "; from here on it may take hold"]);
      stops.push([fault.from, named + " injected at " + fault.place]);
      if (fault.proved !== null) stops.push([fault.proved, named + " proved"]);
      if (fault.mended !== null) stops.push([fault.mended, named + " lifted"]);
      if (fault.to !== null) stops.push([fault.to, named + " proved to be gone"]);
    }
    for (const node in data.members) {
      let before = null;
      for (const run of data.members[node]) {
        if (before && (before[2] !== run[2] || before[3] !== run[3]))
          stops.push([run[0], node + " " + STATES[run[2]] + (run[3] ? ", term " + run[3] : "")]);
        before = run;
      }
    }
    for (const member in data.outages)
      for (const [from, to, ended] of data.outages[member].spans)
        stops.push([from, "clients of " + member + " get nothing done, " + (ended ? "for " + long(to - from) : "and that did not end")]);
    for (const [t, node, kind, text] of data.events) if (!MINOR.has(kind)) stops.push([t, kind + (node ? " " + node : "") + ": " + text]);
    for (const [from, , verdict, title] of data.steps) if (verdict !== "pass") stops.push([from, "step, " + verdict + ": " + title]);
    return stops.sort((a, b) => a[0] - b[0]);
  }

  class Timeline {
    constructor(figure) {
      this.figure = figure;
      this.data = JSON.parse(figure.querySelector("script").textContent);
      this.stops = stopsOf(this.data);
      this.whole = [-this.data.end * 0.005, this.data.end * 1.005];
      [this.from, this.to] = this.whole;
      this.most = 1000;
      for (const member in this.data.ops) for (const [kind] of KINDS) for (const d of this.data.ops[member][kind].d) if (d > this.most) this.most = d;
      this.cursor = null;
      this.drag = null;
      this.tools();
      const named = "Time line of " + this.data.id;
      this.board = html(figure, "div", { "class": "board", tabindex: "0", role: "application",
        "aria-label": named + ", " + long(this.data.end) + ". Left and right move, plus and minus zoom, 0 shows all, n and p go to what happened next and before, full stop and comma walk through everything." });
      this.svg = make(this.board, "svg", { role: "img", "aria-label": named + "; the same stands as a list below" });
      this.readout = html(figure, "output", { "class": "readout", "aria-live": "polite" });
      this.rest();
      this.listen();
    }

    tools() {
      const bar = html(this.figure, "div", { "class": "tools", role: "toolbar", "aria-label": "Time line of " + this.data.id });
      const tool = (sign, name, act) => {
        const button = html(bar, "button", { type: "button", "aria-label": name, title: name }, sign);
        button.addEventListener("click", act);
      };
      tool("+", "Closer", () => this.zoom(0.5));
      tool("−", "Wider", () => this.zoom(2));
      tool("←", "Earlier", () => this.pan(-0.25));
      tool("→", "Later", () => this.pan(0.25));
      tool("All", "The whole scenario", () => this.show(...this.whole));
      tool("‹ Previous", "What happened before", () => this.step(-1));
      tool("Next ›", "What happened next", () => this.step(1));
    }

    listen() {
      const keys = { "ArrowLeft": () => this.pan(-0.1), "ArrowRight": () => this.pan(0.1), "+": () => this.zoom(0.5), "=": () => this.zoom(0.5),
        "-": () => this.zoom(2), "0": () => this.show(...this.whole), "Home": () => this.show(...this.whole), "n": () => this.step(1), "p": () => this.step(-1),
        ".": () => this.walk(1), ",": () => this.walk(-1) };
      this.board.addEventListener("keydown", (event) => {
        const act = event.ctrlKey || event.metaKey || event.altKey ? null : keys[event.key];
        if (act) { event.preventDefault(); act(); }
      });
      this.board.addEventListener("wheel", (event) => {
        if (!event.ctrlKey) return; // plain scrolling stays the page's own
        event.preventDefault();
        this.zoom(event.deltaY < 0 ? 0.7 : 1.4, this.when(event));
      }, { passive: false });
      this.svg.addEventListener("pointermove", (event) => this.move(event));
      this.svg.addEventListener("pointerdown", (event) => {
        if (event.pointerType === "mouse" && event.button === 0) { this.drag = this.when(event); this.svg.setPointerCapture(event.pointerId); }
        else this.move(event);
      });
      this.svg.addEventListener("pointerup", (event) => {
        const begun = this.drag, here = this.when(event);
        this.drag = null;
        if (begun !== null && Math.abs(this.x(here) - this.x(begun)) > 6) this.show(Math.min(begun, here), Math.max(begun, here));
        else this.mark();
      });
      this.svg.addEventListener("pointerleave", () => { if (this.drag === null) { this.cursor = null; this.mark(); this.rest(); } });
      this.svg.addEventListener("dblclick", () => this.show(...this.whole));
    }

    rest() {
      this.readout.textContent = at(Math.max(0, this.from)) + " to " + at(Math.min(this.to, this.data.end)) + " of " + at(this.data.end) + ".";
    }
    when(event) {
      const box = this.svg.getBoundingClientRect();
      return this.from + ((event.clientX - box.left) * this.width / box.width - PAD) / (this.width - PAD - RIGHT) * (this.to - this.from);
    }
    x(t) { return PAD + (t - this.from) / (this.to - this.from) * (this.width - PAD - RIGHT); }
    inside(t) { return t >= this.from && t <= this.to; }

    show(from, to) {
      const span = clamp(to - from, 50, this.whole[1] - this.whole[0]);
      this.from = clamp(from, this.whole[0], this.whole[1] - span);
      this.to = this.from + span;
      this.draw(this.width);
      this.rest();
    }
    zoom(factor, around) {
      const centre = around ?? (this.cursor !== null && this.inside(this.cursor) ? this.cursor : (this.from + this.to) / 2);
      this.show(centre - (centre - this.from) * factor, centre + (this.to - centre) * factor);
    }
    pan(share) { const by = (this.to - this.from) * share; this.show(this.from + by, this.to + by); }
    step(way) {
      const here = this.cursor ?? (way > 0 ? -Infinity : Infinity);
      let index = this.picked === undefined || this.cursor === null
        ? (way > 0 ? this.stops.findIndex((one) => one[0] > here) : this.stops.findLastIndex((one) => one[0] < here)) : this.picked + way;
      if (index < 0 || index >= this.stops.length) { this.readout.textContent = way > 0 ? "Nothing further happened." : "Nothing happened before."; return; }
      this.picked = index;
      const [t, text] = this.stops[index];
      if (!this.inside(t)) { const half = (this.to - this.from) / 2; this.show(t - half, t + half); }
      this.cursor = t;
      this.mark();
      this.readout.textContent = (index + 1) + " of " + this.stops.length + ", at " + at(t) + ": " + text;
    }
    /** The pointer's way for the keyboard: a small step along the time, and all that is there in every lane. */
    walk(way) {
      const here = this.cursor !== null && this.inside(this.cursor) ? this.cursor : this.from;
      this.cursor = clamp(here + way * (this.to - this.from) / 150, this.from, this.to);
      this.picked = undefined;
      this.mark();
      const x = this.x(this.cursor), there = this.hits.filter((hit) => hit[0] <= x + 3 && hit[1] >= x - 3).map((hit) => hit[4]);
      const more = there.length > 8 ? "; and " + (there.length - 8) + " more" : "";
      this.readout.textContent = "At " + at(this.cursor) + ": " + (there.slice(0, 8).join("; ") || "nothing") + more;
    }
    move(event) {
      const t = this.when(event);
      this.cursor = t;
      this.picked = undefined;
      this.mark(this.drag);
      const box = this.svg.getBoundingClientRect();
      const scale = this.width / box.width, x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
      const away = (hit) => Math.max(hit[0] - x, x - hit[1], 0) + Math.max(hit[2] - y, y - hit[3], 0);
      let near = null, least = 14;
      for (const hit of this.hits) {
        const distance = away(hit) + (hit[1] - hit[0]) * 1e-4;
        if (distance < least) { least = distance; near = hit; }
      }
      this.readout.textContent = "At " + at(t) + (near ? ": " + near[4] : "");
    }
    mark(begun) {
      this.top.replaceChildren();
      if (this.cursor === null || !this.inside(this.cursor)) return;
      const x = this.x(this.cursor);
      if (begun !== null && begun !== undefined) {
        const left = this.x(begun);
        make(this.top, "rect", { "class": "picked", x: Math.min(x, left), y: 0, width: Math.abs(x - left), height: this.height });
      }
      make(this.top, "line", { "class": "cursor", x1: x, x2: x, y1: 0, y2: this.height });
    }

    // -- drawing -------------------------------------------------------------------------------------------------

    draw(width) {
      this.width = width;
      this.hits = [];
      this.svg.replaceChildren();
      this.y = 0;
      const ground = make(this.svg, "g", {});
      const ticks = this.axis(ground);
      this.drawSteps();
      this.drawFaults();
      for (const node in this.data.members) this.drawMember(node);
      for (const member in this.data.ops) { this.drawOperations(member); this.drawOutages(member); }
      this.drawEvents();
      for (const series of this.data.series) this.drawSeries(series);
      this.height = this.y + 2;
      for (const x of ticks) make(ground, "line", { "class": "grid", x1: x, x2: x, y1: 18, y2: this.height });
      this.top = make(this.svg, "g", {});
      this.svg.setAttribute("viewBox", "0 0 " + width + " " + this.height);
      this.svg.setAttribute("height", this.height);
      this.mark();
      this.figure.dataset.drawn = String(this.svg.querySelectorAll("[data-lane]").length);
    }

    axis(ground) {
      const span = (this.to - this.from) / SECOND;
      const rough = span / Math.max(2, Math.floor(this.width / 90));
      const power = 10 ** Math.floor(Math.log10(rough));
      const every = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough);
      const digits = Math.max(0, -Math.floor(Math.log10(every) + 1e-9));
      const found = [];
      for (let n = Math.ceil(this.from / SECOND / every); n * every <= this.to / SECOND; n++) {
        const x = this.x(n * every * SECOND);
        found.push(x);
        make(ground, "text", { x: Math.max(x, 14), y: 12, "text-anchor": "middle", "class": "soft" }, (n * every).toFixed(digits) + " s");
      }
      this.y = 18;
      return found;
    }

    lane(title, height, kind) {
      const g = make(this.svg, "g", { "data-lane": kind });
      this.y += GAP;
      for (const line of this.wrapped(title)) { make(g, "text", { x: PAD, y: this.y + 11 }, line); this.y += LINE; }
      this.y += 2;
      const top = this.y;
      this.y += height;
      return [g, top];
    }

    /** Words in lines that fit the board; 6.4 pixels are a letter of 12 on average. */
    wrapped(text) {
      const most = Math.floor((this.width - 2 * PAD) / 6.4), lines = [""];
      for (const word of text.split(" ")) {
        const last = lines[lines.length - 1];
        if (last && last.length + 1 + word.length > most) lines.push(word);
        else lines[lines.length - 1] = last ? last + " " + word : word;
      }
      return lines;
    }

    /** A bar's left end and width on the board, or null when it is out of sight. */
    bar(from, to, least) {
      if (to < this.from || from > this.to) return null;
      const left = this.x(Math.max(from, this.from)), right = this.x(Math.min(to, this.to));
      return [left, Math.max(right - left, least)];
    }
    hit(x, width, y, height, text) { this.hits.push([x, x + width, y, y + height, text]); }

    drawSteps() {
      if (!this.data.steps.length) return;
      const [g, top] = this.lane("Steps", 17, "steps");
      this.data.steps.forEach(([from, to, verdict, title], index) => {
        const bar = this.bar(from, to, 1.5);
        if (!bar) return;
        make(g, "rect", { "class": "step " + verdict, x: bar[0], y: top, width: bar[1], height: 16 });
        const sign = (verdict === "fail" ? "✗" : verdict === "inconclusive" ? "?" : "") + (index + 1);
        if (bar[1] > 9 + 7 * sign.length) make(g, "text", { x: bar[0] + 4, y: top + 12, "class": "soft" }, sign);
        this.hit(bar[0], bar[1], top, 16, "step " + (index + 1) + ", " + verdict + ", " + long(to - from) + ": " + title);
      });
    }

    drawFaults() {
      for (const fault of this.data.faults) {
        const healed = fault.to !== null, last = healed ? fault.to : this.data.end, to = fault.mended ?? last;
        const name = fault.name + " on " + fault.target;
        const told = (fault.proved === null ? ", not proved" : "") + (healed ? "" : ", not seen healed");
        const [g, top] = this.lane("Fault: " + name + told, 13, "fault");
        const edges = [[fault.begun, fault.from, "is being made: it took hold from here on or later"], [to, last, "is lifted; not yet seen to be gone"]];
        for (const [begin, end, words] of edges) { // on both sides of the bar: open, as it may hold or not
          const edge = begin < end && this.bar(begin, end, 1.5);
          if (!edge) continue;
          make(g, "rect", { "class": "fault-edge", x: edge[0], y: top + 3, width: edge[1], height: 6 });
          this.hit(edge[0], edge[1], top, 12, name + " " + words + ", " + at(begin) + " to " + at(end));
        }
        const bar = this.bar(fault.from, to, 3);
        if (bar) {
          make(g, "rect", { "class": "fault", x: bar[0], y: top, width: bar[1], height: 12 });
          this.hit(bar[0], bar[1], top, 12, name + told + ", " + at(fault.from) + " to " + (to < last || healed ? at(to) : "the end") + ", at " + fault.place);
        }
        if (fault.proved !== null && this.inside(fault.proved)) {
          const x = this.x(fault.proved);
          make(g, "path", { "class": "proved", d: "M" + x + " " + (top + 9) + "l-6 -11h12z" });
          this.hit(x - 6, 12, top - 2, 11, name + " proved at " + at(fault.proved));
        }
      }
    }

    drawMember(node) {
      const [g, top] = this.lane(node, 14, "member");
      let term = null, free = 0;
      for (const [from, to, state, here] of this.data.members[node]) {
        const bar = this.bar(from, to, 1.5);
        const told = here !== null && here !== term;
        term = here ?? term;
        if (!bar) continue;
        const [x, width] = bar, middle = top + 7;
        if (state === "L") make(g, "rect", { "class": "leads", x, y: top + 2, width, height: 10 });
        else if (state === "X") {
          let d = "";
          for (let mark = x + 3; mark < x + Math.max(width, 4); mark += 9) d += "M" + (mark - 3) + " " + (middle - 3) + "l6 6m-6 0l6 -6";
          make(g, "path", { "class": "silent", d });
        } else make(g, "line", { "class": state === "F" ? "follows" : "lost", x1: x, x2: x + width, y1: middle, y2: middle });
        const where = Math.max(x, PAD + 8 * node.length + 10);
        if (told && where >= free) { make(g, "text", { x: where, y: top - 3, "class": "soft" }, "t" + here); free = where + 14 + 7 * String(here).length; }
        this.hit(x, width, top, 14, node + " " + STATES[state] + (here ? " in term " + here : "") + ", " + at(from) + " to " + at(to));
      }
    }

    drawOperations(member) {
      const lane = this.data.ops[member], height = 84;
      const drawn = KINDS.reduce((sum, [kind]) => sum + lane[kind].t.length, 0);
      const title = "Clients of " + member + ": " + lane.count + " operations, " + lane.ok.n + " ok, " + lane.fail.n + " failed, " + lane.unknown.n + " unknown"
        + (drawn < lane.count ? " (" + drawn + " drawn)" : "");
      const [g, top] = this.lane(title, height, "operations");
      const low = 1, high = Math.log10(this.most * 1.15); // from 1 ms, alike for all members; the top is for what never ended
      const up = (d) => top + height - 4 - clamp((Math.log10(Math.max(d, 10)) - low) / (high - low), 0, 1) * (height - 20);
      for (let decade = 1; decade <= high; decade++) {
        const y = up(10 ** decade);
        make(g, "line", { "class": "rule", x1: PAD, x2: this.width - RIGHT, y1: y, y2: y });
        make(g, "text", { x: this.width - RIGHT + 4, y: y + 4, "class": "soft" }, long(10 ** decade).replace(/\.0+ /, " "));
      }
      for (const [kind, style] of KINDS) {
        const points = lane[kind];
        let d = "";
        points.t.forEach((t, index) => {
          if (!this.inside(t)) return;
          const took = points.d[index], x = Math.round(this.x(t) * 10) / 10, y = Math.round((kind === "unknown" && !took ? top + 6 : up(took)) * 10) / 10;
          d += "M" + x + (kind === "ok" ? " " + y + "h.01" : kind === "fail" ? " " + y + "m-3.5 -3.5l7 7m-7 0l7 -7" : " " + (y - 4) + "l4 4l-4 4l-4 -4z");
          const what = points.k[index] + " at " + member + ", " + (kind === "unknown" ? "not known whether it took effect" : kind === "fail" ? "failed" : "ok")
            + (took ? ", " + long(took) : "") + (points.w[index] > 1 ? "; one of " + points.w[index] + " about here" : "") + (points.e[index] ? "; " + points.e[index] : "");
          this.hit(x - 2, 4, y - 2, 4, what);
        });
        if (d) make(g, "path", { "class": style, d });
      }
    }

    drawOutages(member) {
      const found = this.data.outages[member];
      const [g, top] = this.lane("Without success at " + member + ": " + (found.total_ms ? long(found.total_ms * 10) + " in all" : "never") + " (counted from " + found.limit_ms + " ms; calls every " + found.spacing_ms + " ms)", 13, "outages");
      make(g, "line", { "class": "fine", x1: PAD, x2: this.width - RIGHT, y1: top + 6, y2: top + 6 });
      for (const [from, to, ended] of found.spans) {
        const bar = this.bar(from, to, 3);
        if (!bar) continue;
        make(g, "rect", { x: bar[0], y: top, width: bar[1], height: 12, fill: "var(--paper)" });
        make(g, "rect", { "class": "outage", x: bar[0], y: top, width: bar[1], height: 12 });
        if (!ended) make(g, "path", { "class": "silent", d: "M" + (bar[0] + bar[1] - 7) + " " + (top + 1) + "l6 5l-6 5" });
        this.hit(bar[0], bar[1], top, 12, "clients of " + member + " without success for " + long(to - from) + (ended ? "" : ", and it did not end") + ", from " + at(from));
      }
    }

    drawEvents() {
      const nodes = [...new Set(this.data.events.map((one) => one[1]))].sort();
      for (const node of nodes) {
        const [g, top] = this.lane("Events" + (node ? " of " + node : ""), 22, "events");
        const placed = [], mine = this.data.events.filter((one) => one[1] === node && this.inside(one[0]));
        for (const [t, , kind, text] of mine.sort((a, b) => RANK.indexOf(a[2]) - RANK.indexOf(b[2]))) {
          const x = this.x(t), glyph = GLYPHS[kind] ?? "o";
          this.hit(x - 7, 14, top, 16, kind + (node ? " of " + node : "") + " at " + at(t) + ": " + text);
          if (placed.some((other) => Math.abs(other - x) < 15)) { // no room for a sign
            make(g, "line", { "class": "crowded", x1: x, x2: x, y1: top + 17, y2: top + 22 });
            continue;
          }
          placed.push(x);
          const mark = make(g, "g", { "class": "event" });
          make(mark, "circle", { cx: x, cy: top + 8, r: 7.5 });
          make(mark, "text", { x, y: top + 12 }, glyph);
        }
      }
    }

    drawSeries(series) {
      const height = 34, most = Math.max(...series.v, 0.1);
      const [g, top] = this.lane(series.title + " of " + series.node + ": up to " + most.toFixed(1) + " ms", height, "series");
      let d = "";
      series.t.forEach((t, index) => {
        if (!this.inside(t)) return;
        const x = this.x(t), y = top + height - 2 - series.v[index] / most * (height - 6);
        d += (d ? "L" : "M") + x.toFixed(1) + " " + y.toFixed(1);
        this.hit(x - 2, 4, y - 2, 4, series.title + " of " + series.node + ": " + series.v[index] + " ms");
      });
      if (d) make(g, "path", { "class": "series", d });
    }
  }

  // -- the page ----------------------------------------------------------------------------------------------------

  const all = [];
  const main = document.querySelector("main");
  const waiting = [...document.querySelectorAll("figure.timeline")];
  const width = () => Math.max(240, main.clientWidth - 2);
  const idle = window.requestIdleCallback ? (act) => requestIdleCallback(act, { timeout: 200 }) : (act) => setTimeout(act, 1);
  function drawNext() {
    const figure = waiting.shift();
    if (!figure) { document.documentElement.dataset.ready = String(all.length); return; }
    const one = new Timeline(figure);
    all.push(one);
    one.draw(width());
    return true;
  }
  function drawSome(deadline) {
    do { if (!drawNext()) return; } while (deadline && deadline.timeRemaining && deadline.timeRemaining() > 8);
    idle(drawSome);
  }
  requestAnimationFrame(() => idle(drawSome)); // the words first

  let last = width();
  window.addEventListener("resize", () => requestAnimationFrame(() => {
    if (width() === last) return;
    last = width();
    for (const one of all) one.draw(last);
  }));
  let opened = [];
  window.addEventListener("beforeprint", () => {
    while (drawNext()) { /* a page on paper cannot wait */ }
    for (const one of all) { one.kept = [one.from, one.to]; [one.from, one.to] = one.whole; one.draw(680); }
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const one of opened) one.open = true;
  });
  window.addEventListener("afterprint", () => {
    for (const one of all) { [one.from, one.to] = one.kept ?? one.whole; one.draw(width()); }
    for (const one of opened) one.open = false;
  });
})();
