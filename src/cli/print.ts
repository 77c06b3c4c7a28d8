/** Long output, as fast as it is read. When whoever reads it is gone, that is its end, and no error. */
export async function print(parts: Iterable<string> | AsyncIterable<string>): Promise<void> {
  const { stdout } = process
  for await (const part of parts) {
    if (!stdout.writable) return
    if (!stdout.write(part)) await drained(stdout)
  }
}

const drained = (stream: NodeJS.WriteStream): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      stream.off('drain', done).off('error', done).off('close', done)
      resolve()
    }
    stream.on('drain', done).on('error', done).on('close', done)
  })
