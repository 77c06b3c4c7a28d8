/** The parts of a `dev_t` as Linux encodes it (glibc's gnu_dev_major and gnu_dev_minor), below 2^32. */
export const majorOf = (dev: number): number => (dev >>> 8) & 0xfff
export const minorOf = (dev: number): number => (dev & 0xff) | ((dev >>> 12) & 0xfff00)
