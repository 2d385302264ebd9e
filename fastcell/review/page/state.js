// What all modules of the page share.

export const state = {
  set: null, // what the server says of the data set
  query: { terms: [], sort: "" },
  view: { view: "", count: 0 }, // the cells that meet the query
  focus: 0, // place in the view
  anchor: 0, // place where a range of selected cells begins
  chosen: new Set(), // cell_ids
  wholeView: false, // all cells of the view are selected
  sequence: 0, // of the last mark that is known
  version: -1, // of the columns; -1 makes the page ask for them again
  charts: [], // names of the columns shown
};
