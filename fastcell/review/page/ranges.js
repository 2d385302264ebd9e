// Cell_ids as short text: `0-5,9` for cells 0 to 5 and cell 9.

export function ranges(ids) {
  ids.sort((a, b) => a - b);
  const parts = [];
  for (let i = 0; i < ids.length;) {
    let j = i;
    while (j + 1 < ids.length && ids[j + 1] === ids[j] + 1) j++;
    parts.push(i === j ? `${ids[i]}` : `${ids[i]}-${ids[j]}`);
    i = j + 1;
  }
  return parts.join(",");
}
export function unranges(text) {
  const ids = [];
  for (const part of String(text).split(",")) {
    const [first, last] = part.split("-").map(Number);
    if (!part || !Number.isInteger(first)) continue;
    const end = Number.isInteger(last) ? last : first;
    for (let id = first; id <= end && ids.length < 1e7; id++) ids.push(id);
  }
  return ids;
}
