/** `nbd-remap demo`: the main job, shown on a real virtual machine. */
import { Command } from 'commander'

export const demoCommand = (): Command =>
  new Command('demo').description('Watch a virtual machine survive a failing disk.')
