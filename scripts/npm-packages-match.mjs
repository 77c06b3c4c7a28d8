/**
 * Exits 0 if node_modules holds what package-lock.json says, by npm's own record of what it installed. Contents are
 * compared, not times: git gives files any time. What npm leaves out for another processor may be missing.
 */
import { readFileSync } from 'node:fs'

function packages(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8')).packages
  } catch (error) {
    if (error.code === 'ENOENT') return {}
    throw error
  }
}

const wanted = packages('package-lock.json')
const installed = packages('node_modules/.package-lock.json')
delete wanted['']

const same = Object.entries(wanted).every(([path, { version, optional }]) =>
  path in installed ? installed[path].version === version : optional === true,
)
const nothingElse = Object.keys(installed).every((path) => path in wanted)
process.exitCode = same && nothingElse ? 0 : 1
