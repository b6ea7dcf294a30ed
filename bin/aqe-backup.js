#!/usr/bin/env node
// The command: hands its arguments to the addon, and Ctrl-C as an abort, so that what was begun is cleaned up.
'use strict'

const { noteSignal, runCli } = addon()

function addon() {
  try {
    return require('../index.js')
  } catch (error) {
    // Without the package of this platform there is nothing to run; napi's own message is long and names no way out.
    process.stderr.write(
      `aqe-backup: the native part for ${process.platform}-${process.arch} can't be loaded; install @agentic-qe/backup again ` +
        `on this machine, with optional dependencies (${error.message.replace(/\s+/g, ' ')})\n`,
    )
    process.exit(1)
  }
}

const controller = new AbortController()
for (const [name, number] of [['SIGHUP', 1], ['SIGINT', 2], ['SIGQUIT', 3], ['SIGTERM', 15]]) {
  process.on(name, () => {
    // Somebody is at a question, or can't wait; what is left behind then is swept by the next run.
    if (!noteSignal(number)) {
      process.stderr.write('\n')
      process.exit(130)
    }
    controller.abort()
  })
}

runCli(process.argv.slice(2), controller.signal).then(
  (code) => {
    process.exitCode = code
  },
  (error) => {
    process.stderr.write(`aqe-backup: ${error.message}\n`)
    process.exitCode = error.code === 'ABORT_ERR' ? 130 : 1
  },
)
