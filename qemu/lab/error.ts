/** The errors of the lab itself. */

/** Something was asked that the lab cannot do as things are. */
export class LabError extends Error {
  override name = 'LabError'
}

/** Something is not as it was expected to be: what a test framework calls an assertion. */
export class ExpectationError extends Error {
  override name = 'ExpectationError'
}
