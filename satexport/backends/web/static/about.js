/** The foot of the page: what the bundle is, how it was proven, and the proof on this device. */

import {find, make, megabytes, quantile} from './dom.js';

/** @typedef {import('./satexport.js').Model} Model */
/** @typedef {import('./record.js').Facts} Facts */
/** @typedef {import('./satexport.js').Contract & {family: string, exporter: string}} Contract */
/** @typedef {{max_score_difference: number, max_score_difference_of?: Record<string, number>}} Gates */

const REPORT = 'reports/parity.json';
const LICENCES = /^(LICENSE|NOTICE|ThirdParty|ATTRIBUTION)/;  // names of files

/**
 * What files of results say about the bundle.
 * @param {Model} model
 * @param {string} bundleHash  SHA-256 of bundle.json
 * @returns {Facts}
 */
export function factsOf(model, bundleHash) {
  const {contract, target, seal} = model.manifest;
  const {variant, checkpoint} = contract;
  return {variant, precision: target.precision, checkpoint, seal, bundle_sha256: bundleHash};
}

/**
 * @param {Model} model
 * @param {Facts} facts
 */
export function showBundle(model, facts) {
  const {target, files, seal} = model.manifest;
  const contract = /** @type {Contract} */ (model.contract);
  const total = Object.values(files).reduce((sum, file) => sum + file.bytes, 0);
  const {checkpoint} = contract;
  const seconds = contract.hop_samples / contract.sample_rate;
  const {name, source} = checkpoint;
  const threads = `${model.threads} ${model.threads === 1 ? 'thread' : 'threads'}`;
  const memory = `${megabytes(model.memoryBytes())} MB of WebAssembly memory`;
  fill(find('facts', HTMLDListElement), [
    ['Model', `${contract.variant}, ${contract.classes} sounds, a chunk of ${seconds} s at a time`],
    ['Precision', `${target.precision} (target ${target.name})`],
    ['Checkpoint', name === source ? name : `${name}, from ${source}`],
    ['Its SHA-256', code(checkpoint.sha256)],
    ['Seal of bundle.json', code(seal)],
    ['SHA-256 of bundle.json', code(facts.bundle_sha256)],
    ['Made by', contract.exporter],
    ['Folder', `${Object.keys(files).length} files, ${megabytes(total)} MB`],
    ['Loaded here', `in ${model.loadSeconds.toFixed(1)} s; ${threads}; ${memory}`],
  ]);
  const licences = Object.keys(files).filter((file) => LICENCES.test(file)).sort();
  const list = find('licences', HTMLUListElement);
  list.replaceChildren(...licences.map((file) => {
    const item = make('li');
    const link = make('a', file);
    link.href = `./${encodeURIComponent(file)}`;
    item.append(link);
    return item;
  }));
  find('no-licences', HTMLElement).hidden = licences.length > 0;
}

/**
 * Show reports/parity.json, which `satexport parity` writes. A report that cannot be read is said, and stops nothing.
 * @param {URL} folder
 * @param {string} bundleHash
 */
export async function showParity(folder, bundleHash) {
  const place = find('parity', HTMLElement);
  const report = await readReport(new URL(REPORT, folder));
  if (report?.bundle_sha256 !== bundleHash) {
    return showUnproven(place, report ? `${REPORT} is about another bundle` : 'this folder has no report of parity');
  }
  const list = make('dl', '', 'facts');
  try {
    fill(list, parityFacts(report));
    place.replaceChildren(list);
  } catch {
    showUnproven(place, `${REPORT} cannot be read by this version of the page`);
  }
}

/**
 * @param {HTMLElement} place
 * @param {string} found
 */
function showUnproven(place, found) {
  const words = `Not proven: ${found}. To make one, run: satexport parity BUNDLE. Or prove it here:`;
  place.replaceChildren(make('p', words));
}

/**
 * @param {any} report  `ParityReport` in Python
 * @returns {[string, string][]}
 */
function parityFacts(report) {
  const {differences, labelled_set: set, runtime, origin} = report;
  /** @type {[string, string][]} */
  const facts = [['Verdict', report.verdict]];
  for (const [name, values] of Object.entries(differences ?? {})) {
    facts.push([`Against PyTorch, ${name}`, inWords(values)]);
  }
  if (set) facts.push([`mAP, ${set.name}`, `${set.bundle_map.toFixed(3)} (PyTorch: ${set.pytorch_map.toFixed(3)})`]);
  if (facts.length > 1) facts.push(['Proven with', [runtime, origin?.cpu].filter(Boolean).join(', ') || 'not said']);
  return facts;
}

/** @param {{chunks: number, largest: number | null, top1_agreement: number}} values  largest: JSON has null for NaN */
function inWords({chunks, largest, top1_agreement: top1}) {
  const difference = largest === null ? 'not a number' : largest.toPrecision(2);
  return `largest score difference ${difference}, same top sound in ${percent(top1)} of ${chunks} chunks`;
}

/** @param {number} share */
const percent = (share) => `${Number((100 * share).toFixed(1))} %`;

/**
 * @param {URL} url
 * @returns {Promise<any>}  null: there is none, or it is no report
 */
async function readReport(url) {
  try {
    const answer = await fetch(url);
    return answer.ok ? await answer.json() : null;
  } catch {
    return null;
  }
}

/**
 * Run the golden chunks when the reader asks for it.
 * @param {Model} model
 * @param {(sentence: string) => void} say
 */
export function offerProof(model, say) {
  const button = find('prove', HTMLButtonElement);
  const result = find('proof', HTMLElement);
  button.disabled = false;
  button.addEventListener('click', async () => {
    button.disabled = true;
    result.textContent = 'Running the golden chunks \u2026';
    try {
      const proof = await model.prove((done, total) => { result.textContent = `Chunk ${done} of ${total}`; });
      result.textContent = verdict(proof, gateOf(model));
    } catch (error) {
      result.textContent = `The proof could not run: ${error instanceof Error ? error.message : error}`;
    }
    say(result.textContent);
    button.disabled = false;
  });
}

/**
 * The largest score difference that the target allows its model.
 * @param {Model} model
 * @returns {number}
 */
function gateOf({manifest, contract}) {
  const gates = /** @type {Gates} */ (manifest.target.gates);
  const {family} = /** @type {Contract} */ (contract);
  return gates.max_score_difference_of?.[family] ?? gates.max_score_difference;
}

/**
 * @param {import('./satexport.js').Proof} proof
 * @param {number} gate
 */
function verdict({chunks, largest, top1, stepMs}, gate) {
  const good = largest <= gate ? 'Passed' : 'Failed';
  return `${good} on this device: largest score difference from PyTorch ${largest.toPrecision(2)} (at most ${gate}), `
    + `same top sound in ${Math.round(top1 * chunks)} of ${chunks} chunks, `
    + `a step takes ${quantile(stepMs).toFixed(0)} ms (median).`;
}

/**
 * @param {HTMLDListElement} list
 * @param {[string, string | Node][]} facts
 */
function fill(list, facts) {
  list.replaceChildren(...facts.map(([name, value]) => {
    const pair = make('div');
    const description = make('dd');
    description.append(value);
    pair.append(make('dt', name), description);
    return pair;
  }));
}

/** @param {string} text */
const code = (text) => make('code', text);
