/** The page: loads the bundle in its folder, and then works without the network. */

import {factsOf, offerProof, showBundle, showParity} from './about.js';
import {Announcer} from './announce.js';
import {acceptFiles} from './drop.js';
import {find, megabytes} from './dom.js';
import {Folder} from './files.js';
import {checkMicrophone} from './microphone.js';
import {Notices} from './notices.js';
import {load, SatexportError} from './satexport.js';
import {Status} from './status.js';
import {View} from './view.js';
import {messageOf, RANDOM_WEIGHTS} from './words.js';
import {Work} from './work.js';

const FOLDER = new URL('.', import.meta.url);
const CODE = /\.(js|html|css)$/;  // names of files that the page consists of

document.documentElement.className = 'started';  // first.js: the modules run
find('first', HTMLElement).remove();

const announcer = new Announcer(find('live', HTMLElement));
const notices = new Notices(find('notices', HTMLElement), (text) => announcer.say(text));
const status = new Status((text) => announcer.say(text));
/** @type {File[]} that came before the model */
const early = [];
/** @type {Work | null} */
let work = null;

/**
 * The threads to compute with: those of `?threads=N` in the page's address, else the target's. The browser gives only
 * one to a page that is not cross-origin isolated.
 * @param {{threads?: number | null}} target
 */
function chooseThreads(target) {
  const asked = Number(new URLSearchParams(location.search).get('threads'));
  return Number.isInteger(asked) && asked > 0 ? asked : target.threads ?? 1;
}

/** Check the page's own files, and load everything that it needs later. */
async function loadBundle() {
  const folder = await Folder.open(FOLDER);
  await folder.checkCode(Object.keys(folder.manifest.files).filter((name) => CODE.test(name)));
  const model = await load(FOLDER, {
    threads: chooseThreads(/** @type {{threads?: number | null}} */ (folder.manifest.target)),
    onProgress: (loaded, total) => status.set('loading', loaded < total
      ? `Loading ${megabytes(loaded)} of ${megabytes(total)} MB` : 'Starting the model', loaded / total),
  });
  const capture = await folder.read('capture.js');
  const facts = factsOf(model, folder.sha256);
  return {model, facts, capture: URL.createObjectURL(new Blob([capture], {type: 'text/javascript'}))};
}

/** @param {unknown} error */
function showLoadError(error) {
  const kind = error instanceof SatexportError ? error.kind : '';
  const title = kind === 'browser' ? 'This browser cannot run the model.'
    : kind === 'bundle' ? 'The bundle in this folder cannot be used.' : 'The model did not start.';
  const hint = kind ? '' : ' Reload the page. If that does not help, close other tabs, or use another browser.';
  notices.show('load', {title, text: messageOf(error) + hint});
  status.set('failed', 'Not loaded');
  find('open', HTMLButtonElement).disabled = true;
}

async function main() {
  acceptFiles((files) => work ? work.take(files) : early.push(...files));
  const problem = checkMicrophone();
  if (problem) notices.show('microphone', problem);
  try {
    const {model, facts, capture} = await loadBundle();
    const {contract, target} = model.manifest;
    const seconds = contract.hop_samples / contract.sample_rate;
    find('lead', HTMLElement).textContent = `The model ${contract.variant} (${target.precision}) names the sounds `
      + `around you, every ${seconds === 1 ? 'second' : `${seconds} seconds`}. It runs in this tab; nothing is sent anywhere.`;
    if (contract.checkpoint.source === 'random') notices.show('random', RANDOM_WEIGHTS);
    showBundle(model, facts);
    offerProof(model, (text) => announcer.say(text));
    await showParity(FOLDER, facts.bundle_sha256);
    work = new Work({model, view: new View(model, facts, announcer), status, notices, capture});
    work.take(early);
    if (status.state === 'loading') work.rest();
  } catch (error) {
    showLoadError(error);
  }
}

void main();
