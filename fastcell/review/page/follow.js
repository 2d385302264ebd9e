// What other tabs, other people and the work in the background have changed.

import { changed, isWriting, showPalette } from "./marks.js";
import { say } from "./elements.js";
import { showProgress } from "./next.js";
import { ask, fail } from "./server.js";
import { state } from "./state.js";
import { load, loadSet, showJob } from "./view.js";

const EVERY_MS = 900, HIDDEN_MS = 4000;
let gone = false; // the server did not answer

async function look() {
  const found = await ask("changes", { since: state.sequence });
  if (gone) { gone = false; say(""); state.version = -1; }
  if (found.version !== state.version) { await loadSet(); await load(state.focus); await showProgress(); } else showJob(found.embedding);
  if (found.sequence === state.sequence) return;
  state.sequence = found.sequence;
  const fresh = await ask("set");
  state.set.tags = fresh.tags;
  if (fresh.classes.join("\n") !== state.set.classes.join("\n")) { state.set.classes = fresh.classes; showPalette(); }
  if (!isWriting()) await changed();
}

export async function follow() {
  try { await look(); } catch (error) { gone = gone || error instanceof TypeError; fail(error); }
  setTimeout(follow, document.hidden ? HIDDEN_MS : EVERY_MS);
}
