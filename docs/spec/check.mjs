// Checks the specification: its types, the scripted runs, simulations of sound networks, and that
// what is wrong with each network of broken.qnt is found. Run by ./dev spec; arguments:
// --seed N (default 1: the same traces every time), --times N (so many times the traces).

import { spawn } from "node:child_process";
import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const FOLDER = fileURLToPath(new URL(".", import.meta.url));
const QUINT = `${FOLDER}node_modules/@informalsystems/quint/dist/src/cli.js`;
const TOGETHER = Math.min(availableParallelism(), 4);

const { values } = parseArgs({
  options: { seed: { type: "string", default: "1" }, times: { type: "string", default: "1" } },
});
const SIMULATE = ["--backend=typescript", "--verbosity=1", `--seed=${values.seed}`];

// Traces, their length, and what at least one of them must reach.
const REACHED = ["someFinal", "finalAfterNullified", "doubleProposal"];
const SOUND = {
  epochs: [100, 120, [...REACHED, "threeFinal", "sealedByFiller", "epochChanged", "finalInNextEpoch"]],
  four: [200, 60, [...REACHED, "threeFinal"]],
  weighted: [150, 60, REACHED],
  heavy: [150, 40, REACHED],
  third: [150, 40, REACHED],
};

// The invariant that must be seen broken.
const BROKEN = {
  gapsIgnored: "agreement",
  noS3: "agreement",
  half: "agreement",
  laxQuorum: "agreement",
  countedHeads: "agreement",
  noE3: "epochsBeginOnSeals",
  noE2: "sealing",
  noS1: "noHonestEvidence",
  noS4: "noHonestEvidence",
};
const BROKEN_TRACES = 3000;
const BROKEN_STEPS = 40;

function quint(...args) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [QUINT, ...args], { cwd: FOLDER });
    let text = "";
    child.stdout.on("data", (data) => (text += data));
    child.stderr.on("data", (data) => (text += data));
    child.on("close", (code) => resolve({ code, text }));
  });
}

function simulate(file, model, invariant, traces, steps, witnesses = []) {
  const more = witnesses.length > 0 ? ["--witnesses", ...witnesses] : [];
  return quint(
    "run", file, `--main=${model}`, ...SIMULATE, `--max-samples=${traces}`, `--max-steps=${steps}`,
    `--invariant=${invariant}`, ...more,
  );
}

async function sound(model, [traces, steps, witnesses]) {
  const count = traces * Number(values.times);
  const { code, text } = await simulate(
    "models.qnt", model, "safety and settled", count, steps, witnesses,
  );
  const missed = witnesses.filter(
    (name) => !new RegExp(`^${name} was witnessed in [1-9]`, "m").test(text),
  );
  return {
    name: `${model}: ${count} traces`,
    ok: code === 0 && missed.length === 0,
    text: missed.length > 0 ? `${text}\nnever reached: ${missed.join(", ")}` : text,
  };
}

async function broken(model, invariant) {
  const { text } = await simulate("broken.qnt", model, invariant, BROKEN_TRACES, BROKEN_STEPS);
  return { name: `${model} breaks ${invariant}`, ok: text.includes("[violation]"), text };
}

async function succeeds(name, ...args) {
  const { code, text } = await quint(...args);
  return { name, ok: code === 0, text };
}

const tasks = [
  ...["models", "broken", "scenarios"].map(
    (file) => () => succeeds(`types of ${file}.qnt`, "typecheck", `${file}.qnt`),
  ),
  ...Object.entries(SOUND).map(([model, plan]) => () => sound(model, plan)),
  ...Object.entries(BROKEN).map(([model, invariant]) => () => broken(model, invariant)),
  // With too many faults there are forks, and every one of them convicts.
  async () => {
    const { code, text } = await simulate(
      "broken.qnt", "half", "forksConvict and noHonestEvidence", 150, BROKEN_STEPS,
    );
    return { name: "half convicts the faulty alone", ok: code === 0, text };
  },
  ...["scenarios", "sealing"].map(
    (module) => () =>
      succeeds(`runs of ${module}`, "test", "scenarios.qnt", `--main=${module}`, "--backend=typescript"),
  ),
];

let failed = 0;
async function work() {
  for (let task = tasks.shift(); task !== undefined; task = tasks.shift()) {
    const started = performance.now();
    const { name, ok, text } = await task();
    const seconds = ((performance.now() - started) / 1000).toFixed(1);
    console.log(`${name.padEnd(44)}${(ok ? "ok" : "FAILED").padEnd(8)}${seconds.padStart(6)} s`);
    if (!ok) {
      failed += 1;
      console.log(text);
    }
  }
}
await Promise.all(Array.from({ length: TOGETHER }, work));
process.exit(failed === 0 ? 0 : 1);
