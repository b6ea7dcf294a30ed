#!/usr/bin/env node
// The command: hands its arguments to the addon, and Ctrl-C as an abort, so that what was begun is cleaned up.
'use strict'

const { runCli } = require('../index.js')

const controller = new AbortController()
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => controller.abort())

runCli(process.argv.slice(2), controller.signal).then(
  (code) => {
    process.exitCode = code
  },
  (error) => {
    process.stderr.write(`aqe-backup: ${error.message}\n`)
    process.exitCode = error.code === 'ABORT_ERR' ? 130 : 1
  },
)
