/** The end of `text`, of at most so many bytes in UTF-8. Of a path it tells more than the beginning. */
export function lastBytes(text: string, bytesMax: number): string {
  let end = text
  while (Buffer.byteLength(end) > bytesMax) end = end.slice(Math.max(1, Math.ceil((end.length - bytesMax) / 4)))
  return end
}
