"use strict";
const recording = JSON.parse(document.getElementById("recording").textContent);
const { frames, stage } = recording;
const lang = new URLSearchParams(location.search).get("lang")
  || (navigator.language.startsWith("zh") ? "zh" : "en");
const zh = lang === "zh" ? 1 : 0; // sentences are pairs: English, Chinese
const STAGES = "3a 3b 3c 3d 3e 3f 3g 4a 4b 4c 4d".split(" ");
const answered = {}; // the answer that was chosen, by frame
let now = 0, player = null;

const $ = (id) => document.getElementById(id);
const html = (text) => String(text).replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
const code = (text) => html(text).replace(/`(.+?)`/g, "<code>$1</code>");
const say = (en, cn) => (zh ? cn : en);

// Words

const PARENT = frames.some((f) => f.processes.length > 1) ? say("parent", "父进程") : say("server", "服务器");
const CHILD = recording.child ? recording.child[zh] : say("child", "子进程");

function label(name) {
  const [kind, number] = name.split(" ");
  const words = {
    parent: PARENT, child: CHILD, client: say("client", "客户端"),
    thread: say("thread", "线程"), coroutine: say("coroutine", "协程"),
  };
  return number ? `${words[kind]} ${number}` : words[kind];
}

const badge = (name) => name.split(" ")[1] || (PARENT === say("parent", "父进程") ? say("P", "父") : say("S", "主"));
const capital = (text) => text[0].toUpperCase() + text.slice(1);

function doing(process, task) {
  if (process.state === "zombie") return say("zombie", "僵尸进程");
  if (process.state === "gone") return say("gone", "已消失");
  if (process.state === "stopped") return say("stopped", "已停止");
  if (!task) return say("runs", "运行中");
  if (task.state === "runs") return say(`at line ${task.stack[0][1]}`, `在第 ${task.stack[0][1]} 行`);
  if (task.state === "await") return say("waits at await", "在 await 处等待");
  return say(`waits in ${task.state}`, `在 ${task.state} 中等待`);
}

const refers = (n) => say(n === 1 ? "descriptor refers to it" : "descriptors refer to it", "个描述符引用它");
const target = (to) => {
  if (to === "listening") return say("listening socket", "监听套接字");
  if (to.startsWith("client")) return say(`connection of ${to.replace(" ", "\u00a0")}`, `客户端 ${to.split(" ")[1]} 的连接`);
  return to === "terminal" ? say("terminal", "终端") : to;
};
const drawn = (to) => to === "listening" || to.startsWith("client");

function happened(i) {
  const { by, did } = frames[i];
  if (!by) return say(
    `The server listens. Nothing has been accepted yet. Press → for the next statement.`,
    `服务器在监听，还没有接受任何连接。按 → 走到下一条语句。`);
  const who = zh ? label(by) : capital(label(by));
  if (did === "steps" || did === "runs") {
    const task = tasks(frames[i - 1]).find((one) => one.name === by);
    const line = task ? lines.get(task.stack[0][1]).trim().replace(/  #.*/, "") : "";
    if (did === "steps" && line) return `${who}${say(": ", "：")}\`${line}\``;
    return say(`${who} runs on.`, `${who}继续运行。`);
  }
  return who + {
    connects: say(" connects.", "建立连接。"), asks: say(" sends its request.", "发出请求。"),
    ends: say(" has read the end, and ends.", "读到末尾，结束。"), leaves: say(" leaves.", "离开。"),
    stops: say(" is stopped, by SIGSTOP.", "收到 SIGSTOP，停止运行。"),
    goes: say(" goes on, by SIGCONT.", "收到 SIGCONT，继续运行。"),
    wakes: say(" has slept long enough.", "睡够了。"), interrupts: say(" gets a Ctrl-C.", "收到 Ctrl-C。"),
  }[did];
}

// The objects

const tasks = (frame) => frame.processes.flatMap((one) => one.tasks);
const lines = new Map(recording.code.flatMap(([first, list]) => list.map((text, i) => [first + i, text])));

const LANES = [...new Set(frames.flatMap((f) => tasks(f).map((one) => one.name)))];

function codeOf(frame, before) { // a map from line numbers to what is shown of them
  const ran = frame.did === "steps" && before && tasks(before).find((one) => one.name === frame.by);
  const places = (f) => new Map(f ? tasks(f).map((one) => [one.name, one.stack[0][1] + one.state]) : []);
  const was = places(before), is = places(frame);
  const moved = (one) => before && was.get(one.name) !== is.get(one.name);
  return new Map([...lines].map(([line, text]) => {
    const here = tasks(frame).filter((one) => one.stack.some((s) => s[1] === line));
    const top = (one) => one.stack[0][1] === line;
    const kind = (one) => {
      if (!top(one)) return "outer";
      return (moved(one) ? "moved " : "") + (one.state === "runs" ? "next" : "waits");
    };
    const marks = LANES.map((name) => {
      const one = here.find((task) => task.name === name);
      return one ? `<i class="${kind(one)}" title="${label(name)}"><b>${badge(name)}</b></i>` : "<i></i>";
    });
    const waits = here.filter((one) => top(one) && one.state !== "runs").map((one) => doing(owner(frame, one), one));
    const notes = [...new Set(waits)].map((words) => `<em>${words}</em>`);
    const [, statement, comment] = text.trim().match(/^(.*?)(#.*)?$/);
    return [line, `<div class="row${ran && ran.stack[0][1] === line ? " ran" : ""}"><span class="lanes">${marks.join("")}</span>`
      + `<span class="number">${line}</span><code>${html(statement).replace(/[(.]/g, "$&<wbr>")}`
      + `<small>${html(comment || "")}</small></code>${notes.join("")}</div>`];
  }));
}

const owner = (frame, task) => frame.processes.find((one) => one.tasks.includes(task));

function processOf(one, before) {
  const state = (task) => `<span class="state" data-k="${task ? task.name : one.name} state">${doing(one, task)}</span>`;
  const many = one.tasks.length > 1;
  const each = (task) => `<p class="task"><b class="badge">${badge(task.name)}</b> ${state(task)}`
    + `${variables(task.variables, task.name)}</p>`;
  const alone = () => `<p class="task">${state(one.tasks[0])}</p>`
    + (one.tasks[0] ? variables(one.tasks[0].variables, one.name) : "");
  const word = one.pending ? say("SIGCHLD is pending", "SIGCHLD 未决") : say("no SIGCHLD pending", "没有未决的 SIGCHLD");
  const bit = one.pending === null || one.name !== "parent" ? ""
    : `<p class="bit${one.pending ? " set" : ""}"><span data-k="${one.name} pending"><i></i>${word}</span></p>`;
  return `<li class="card process ${one.state}" data-k="${one.name}"><h3><b class="badge">${badge(one.name)}</b>`
    + `<span>${label(one.name)}</span><small>PID ${one.pid}</small></h3>`
    + (many ? one.tasks.map(each).join("") : alone()) + variables(one.shared, one.name) + bit
    + descriptorsOf(one, before) + "</li>";
}

function descriptorsOf(one, before) {
  const same = ([n, to]) => ([m, too]) => n === m && to === too;
  const shut = (before ? before.descriptors : []).filter((d) => drawn(d[1]) && !one.descriptors.some(same(d)));
  const rows = [...one.descriptors.filter((d) => drawn(d[1])), ...shut].sort((a, b) => a[0] - b[0]);
  const plain = new Map();
  one.descriptors.filter((d) => !drawn(d[1])).forEach(([n, to]) => plain.set(to, [...(plain.get(to) || []), n]));
  const words = [...plain].map(([to, list]) => `<span>${list.join(" ")} ${target(to)}</span>`).join(", ");
  if (!rows.length && !words) return "";
  const row = (d) => {
    const gone = shut.includes(d);
    const word = d[1] === "listening" ? target(d[1]) : label(d[1]);
    return `<li class="descriptor${gone ? " shut" : ""}" data-to="${d[1]}" data-k="${one.name} fd ${d[0]}${gone ? "x" : ""}">`
      + `<b>${d[0]}</b><span>${gone ? say("closed: ", "已关闭：") : ""}${word}</span></li>`;
  };
  return `<ul class="descriptors" aria-label="${say("descriptors", "描述符")}">${rows.map(row).join("")}`
    + (words ? `<li class="plain">${words}</li>` : "") + "</ul>";
}

function variables(values, owner) {
  const list = Object.entries(values).map(([name, value]) => `<code data-k="${owner} ${name}">${html(name)} = ${value}</code>`);
  return list.length ? `<span class="variables">${list.join(" ")}</span>` : "";
}

function count(n, was, key) {
  const old = was !== undefined && was !== n ? `<s>${was}</s>` : "";
  return `<p class="count" data-k="${key} count" data-v="${n}"><strong>${old}<b>${n}</b></strong> <span>${refers(n)}</span></p>`;
}

function kernelOf(frame, before) {
  const old = new Map(before ? before.connections.map((one) => [one.client, one.references]) : []);
  const queue = queueOf(frame, before);
  return queue + frame.connections.map((one) => connectionOf(one, old.get(one.client))).join("");
}

function queueOf(frame, before) {
  const queue = frame.listening, waiting = frame.connections.filter((one) => one.queued);
  if (!queue) return "";
  const places = queue.backlog + 1; // Linux lets one more wait (listen(2))
  const squares = [...Array(Math.min(places, 6)).keys()].map((i) => (waiting[i]
    ? `<i data-k="place ${i}" class="taken">${waiting[i].client}</i>` : `<i data-k="place ${i}"></i>`));
  return `<li class="card" data-object="listening"><h3>${target("listening")}</h3>`
    + count(queue.references, before && before.listening ? before.listening.references : undefined, "listening")
    + `<p class="queue"><span data-k="queued">${say("listen queue", "监听队列")} `
    + `${queue.queued} ${say("of", "/")} ${places}</span>`
    + `<span class="places" aria-hidden="true">${squares.join("")}${places > 6 ? "…" : ""}</span></p></li>`;
}

function connectionOf(one, references) {
  const name = `client ${one.client}`, over = !one.server && !one.own;
  const end = (word, state, key) => `<tr><th>${word}<td data-k="${key} ${one.client}">${state}`;
  const queued = one.queued ? say(", in the queue", "，在队列中") : "";
  return `<li class="card ${over ? "over" : ""}" data-object="${name}" data-k="connection ${one.client}">`
    + `<h3>${target(name)}</h3>`
    + (over ? `<p data-k="over ${one.client}">${say("over", "已结束")}</p>` : count(one.references, references, name)
      + "<table>" + end(say("server<span>’s end</span>", "服务器<span>端</span>"), (one.server || "–") + queued, "server")
      + end(say("client<span>’s end</span>", "客户端"), one.own || "–", "own") + "</table>") + "</li>";
}

function clientOf(one) {
  const row = (name, value, key, old) => value
    ? `<dt>${name}<dd data-k="${key} ${one.client}"${old ? ' class="old"' : ""}>${html(value)}` : "";
  let prompt = one.sent ? say("waits for an answer", "等待响应") : say("connected, silent", "已连接，不说话");
  if (one.got) prompt = say("waits: no end yet", "还在等：没有结束");
  if (one.state === "end") prompt = say("has read the end", "读到了末尾");
  if (one.state === "gone") prompt = `<samp>$</samp> ${say("the prompt is back", "提示符回来了")}`;
  const name = label(`client ${one.client}`);
  return `<li class="card client ${one.state}" data-client="${one.client}" data-k="client ${one.client}">`
    + `<h3>${name}<small>${say("port", "端口")} ${one.port}</small></h3><dl>`
    + row(say("sent", "发出"), one.sent, "sent", one.got) + row(say("got", "收到"), one.got, "got")
    + `</dl><p data-k="prompt ${one.client}">${prompt}</p></li>`;
}

function build(i) {
  const frame = frames[i], before = frames[i - 1];
  const was = (one) => before && before.processes.find((p) => p.name === one.name);
  return {
    processes: frame.processes.map((one) => processOf(one, was(one))).join(""),
    kernel: kernelOf(frame, before),
    clients: frame.connections.map(clientOf).join(""),
    terminal: frames.slice(0, i + 1).map((f, n) => (n === i && i ? `<mark>${html(f.printed)}</mark>` : html(f.printed))).join(""),
  };
}

// The story

function storyOf(i) {
  const frame = frames[i];
  const text = frame.say ? `<p class="say">${code(frame.say[zh])}</p>` : `<p class="happened">${code(happened(i))}</p>`;
  if (!frame.ask) return `<div>${text}</div>`;
  const chosen = answered[i];
  const choices = frame.answers.map(([right, answer], n) => `<button data-n="${n}" aria-pressed="${chosen === n}"`
    + ` class="${chosen === n ? (right ? "right" : "wrong") : ""}"><kbd>${n + 1}</kbd>${code(answer[zh])}</button>`).join("");
  const why = chosen === undefined ? "" : `<p class="why">${code(frame.answers[chosen][2][zh])}</p>`;
  return `<div>${text}</div><div class="ask"><p>${code(frame.ask[zh])}</p><div class="choices">${choices}</div>${why}</div>`;
}

const mustAnswer = (i) => Boolean(frames[i].ask) && answered[i] === undefined;

function answer(n) {
  if (!frames[now].ask || !frames[now].answers[n]) return;
  answered[now] = n;
  show(now);
  $("next").focus({ preventScroll: true });
}

// Drawing

const valueOf = (one) => one.dataset.v || one.textContent;

function keys(parts) {
  const holder = document.createElement("template");
  holder.innerHTML = parts.processes + parts.kernel + parts.clients;
  return new Map([...holder.content.querySelectorAll("[data-k]")].map((one) => [one.dataset.k, valueOf(one)]));
}

function show(i) {
  now = Math.max(0, Math.min(frames.length - 1, i));
  const parts = build(now);
  Object.entries(parts).forEach(([id, text]) => ($(id).innerHTML = text));
  codeOf(frames[now], frames[now - 1]).forEach((text, line) => {
    if (rows.get(line).drawn !== text) rows.get(line).innerHTML = rows.get(line).drawn = text;
  });
  $("says").innerHTML = storyOf(now);
  if (now) {
    const before = keys(build(now - 1));
    $("picture").querySelectorAll("[data-k]").forEach((one) => {
      const leaf = !one.querySelector("[data-k]") || one.matches(".descriptor");
      if (leaf && before.get(one.dataset.k) !== valueOf(one)) one.classList.add("new");
      if (!before.has(one.dataset.k) && one.matches(".card")) one.classList.add("born");
    });
  }
  $("slider").value = now;
  $("position").textContent = `${now} / ${frames.length - 1}`;
  $("back").disabled = now === 0;
  $("next").disabled = now === frames.length - 1 || mustAnswer(now);
  const at = [".moved", ".ran", ".next"].map((kind) => $("code").querySelector(kind)).find(Boolean);
  if (at) $("code").scrollTop = at.closest(".row").offsetTop - $("code").clientHeight / 2;
  $("terminal").scrollTop = $("terminal").scrollHeight;
  history.replaceState(null, "", `#${stage}-${now}`);
  $("language").href = `?lang=${zh ? "en" : "zh"}#${stage}-${now}`;
  draw();
}

function draw() {
  const svg = document.querySelector("#picture svg"), frame = $("picture").getBoundingClientRect();
  const object = (name) => document.querySelector(`[data-object="${name}"]`);
  const path = (from, to, kind) => {
    if (!from || !to) return "";
    const a = from.getBoundingClientRect(), b = to.getBoundingClientRect();
    const x = a.right - frame.left, y = a.top + a.height / 2 - frame.top;
    const u = b.left - frame.left, v = b.top + Math.min(b.height / 2, 40) - frame.top;
    const bend = (u - x) / 2;
    return u < x ? "" : `<path class="${kind}" d="M${x} ${y}C${x + bend} ${y} ${u - bend} ${v} ${u} ${v}"/>`
      + `<circle class="${kind}" cx="${u}" cy="${v}" r="3"/>`;
  };
  let text = "";
  document.querySelectorAll(".descriptor").forEach((one) => {
    const kinds = ["new", "shut"].filter((kind) => one.classList.contains(kind));
    text += path(one, object(one.dataset.to), kinds.join(" "));
  });
  document.querySelectorAll("[data-client]").forEach((one) => {
    if (!one.classList.contains("gone")) text += path(object(`client ${one.dataset.client}`), one, "wire");
  });
  svg.innerHTML = text;
}

// Keys and fingers

const forward = () => (mustAnswer(now) ? stop() : show(now + 1));

const PLAY = `▶<span> ${say("Play", "播放")}</span>`;

function stop() {
  clearInterval(player);
  player = null;
  $("play").innerHTML = PLAY;
}

function play() {
  if (player) return stop();
  $("play").innerHTML = `❚❚<span> ${say("Pause", "暂停")}</span>`;
  player = setInterval(() => (now === frames.length - 1 || mustAnswer(now) ? stop() : show(now + 1)), 1500);
}

function furthest(to) { // not beyond a question that is still open
  for (let i = now; i < to; i++) if (mustAnswer(i)) return i;
  return to;
}

const KEYS = {
  ArrowRight: forward, ArrowLeft: () => show(now - 1), " ": play,
  Home: () => show(0), End: () => show(furthest(frames.length - 1)),
};
document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  if (event.key === " " && event.target.matches("button, a")) return;
  if (/^[1-9]$/.test(event.key)) answer(Number(event.key) - 1);
  if (!KEYS[event.key]) return;
  KEYS[event.key]();
  event.preventDefault();
});
let finger = null;
document.addEventListener("touchstart", (event) => { finger = event.touches[0]; }, { passive: true });
document.addEventListener("touchend", (event) => {
  const x = event.changedTouches[0].clientX - finger.clientX;
  const y = event.changedTouches[0].clientY - finger.clientY;
  if (Math.abs(x) > 50 && Math.abs(x) > 2 * Math.abs(y)) x < 0 ? forward() : show(now - 1);
});
$("says").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) answer(Number(button.dataset.n));
});
$("back").onclick = () => show(now - 1);
$("next").onclick = forward;
$("play").onclick = play;
$("slider").oninput = () => show(furthest(Number($("slider").value)));
new ResizeObserver(draw).observe($("picture"));
const jump = () => show(Number((location.hash.match(/-(\d+)$/) || [0, 0])[1]));
addEventListener("hashchange", jump);

document.documentElement.lang = zh ? "zh-CN" : "en";
const ours = recording.script === `webserver${stage}.py`;
document.title = (ours ? "" : `${recording.script}: `) + recording.title[zh];
$("title").textContent = document.title;
$("language").textContent = zh ? "English" : "简体中文";
$("back").innerHTML = `←<span> ${say("Back", "后退")}</span>`;
$("next").innerHTML = `<span>${say("Next", "前进")} </span>→`;
$("play").innerHTML = PLAY;
$("program").style.setProperty("--lanes", LANES.length);
$("code").innerHTML = recording.code.map(([first, list]) => {
  const items = list.map((text) => `<li style="--i:${text.search(/\S|$/)}">`);
  return `<ol start="${first}">${items.join("")}</ol>`;
}).join("");
const rows = new Map([...lines.keys()].map((line, i) => [line, $("code").querySelectorAll("li")[i]]));
$("slider").max = frames.length - 1;
$("slider").setAttribute("aria-label", say("step", "步骤"));
const headings = [
  recording.script, say("processes, descriptors", "进程与描述符"), say("the kernel", "内核"),
  say("clients", "客户端"), say("terminal of the server", "服务器的终端"),
];
document.querySelectorAll("main h2").forEach((one, i) => (one.textContent = headings[i]));
const link = (one) => `<a href="${one}.html?lang=${lang}"${one === stage ? ' aria-current="page"' : ""}>${one}</a>`;
if (ours) $("stages").innerHTML = STAGES.map(link).join("");
$("about").textContent = say(
  "Recorded from a real run on Linux; every number was read from the kernel. The clients do what curl"
  + " does: connect, ask, read to the end. Keys: ← →, Home, End, space; 1 2 3 to answer.",
  "录自 Linux 上的一次真实运行，每个数字都从内核读出。客户端的行为同 curl：连接、请求、一直读到末尾。"
  + "按键：← →、Home、End、空格；1 2 3 回答问题。");
jump();
