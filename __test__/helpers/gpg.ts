// A throw-away key.
import assert from 'node:assert/strict';
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import { cleanEnv, exec, type Context } from './project';

/** An environment in which gpg has a key for admin@example.com. Its folder has a short name, because an agent's socket lies in it and may have a path of some 100 bytes. */
export async function withKey(t: Context): Promise<NodeJS.ProcessEnv> {
  const home = fs.mkdtempSync(path.join(os.tmpdir(), 'aqe-gpg-'));
  const env = cleanEnv({ GNUPGHOME: home });
  t.after(async () => {
    await exec('gpgconf', ['--kill', 'all'], { env });
    fs.rmSync(home, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
  });
  const key = await exec('gpg', ['--batch', '--passphrase', '', '--quick-generate-key', 'admin@example.com', 'default', 'default', 'never'], { env });
  assert.equal(key.status, 0, key.stderr);
  return env;
}
