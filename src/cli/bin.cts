#!/usr/bin/env node
/**
 * Where the program starts. A disk with some milliseconds of latency needs as many threads as it has requests in flight,
 * and libuv reads their number when its first thread starts, which loading an ES module does already. This file is a
 * CommonJS module, so it comes before that.
 */
process.env['UV_THREADPOOL_SIZE'] ??= '32'

void import('./main.js')
