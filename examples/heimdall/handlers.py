"""Heimdall's calls. The tokens are decrypted here, and nowhere else."""

import hashlib
import os

from worker import Failed, call, read

KEY = os.environ.get("HEIMDALL_KEY", "example").encode()


def cipher(data, nonce):        # stands for the AES-256-GCM of your application
    stream = hashlib.shake_256(KEY + nonce).digest(len(data))
    return bytes(a ^ b for a, b in zip(data, stream))


def encrypt(text):
    nonce = os.urandom(16)
    return nonce + cipher(text.encode(), nonce)


def decrypt(data):
    return cipher(bytes(data[16:]), bytes(data[:16])).decode()


def refresh_token(args):
    found = read('SELECT api, refresh_token FROM heimdall."Integration" WHERE id = %s', args["id"])
    if not found:
        return lambda db: 0     # it was removed meanwhile
    (api, token), = found

    def audit(db, action):
        # no user and no address: nobody did this
        db.execute('INSERT INTO heimdall."AuditEvent" (action, metadata) '
                   "VALUES (%s, jsonb_build_object('integration', %s::text))", (action, args["id"]))

    try:
        new = call(api + "/token", {"grant_type": "refresh_token",
                                  "refresh_token": decrypt(token)}, timeout=0.5)
    except Failed as error:
        message = str(error)

        def store_error(db, final):
            if final:           # while there are attempts left nothing is wrong
                db.execute('UPDATE heimdall."Integration" SET status = %s, last_error = %s WHERE id = %s',
                           ("error", message, args["id"]))
                audit(db, "integration_token_error")
        error.store = store_error
        raise

    def store(db):
        db.execute('UPDATE heimdall."Integration" SET access_token = %s, refresh_token = %s, '
                   "expires_at = now() + make_interval(secs => %s), status = 'ok', last_error = NULL "
                   "WHERE id = %s", (encrypt(new["access_token"]), encrypt(new["refresh_token"]),
                                     new["expires_in"], args["id"]))
        audit(db, "integration_token_refreshed")
        return 1
    return store


def channel_stats(args):
    found = read('SELECT api FROM heimdall."Integration" WHERE id = %s', args["id"])
    if not found:
        return lambda db: 0
    stats = call(found[0][0] + "/stats", timeout=0.5)
    if "followers" not in stats:
        raise Failed("no counts in the answer")
    return lambda db: db.execute(
        'UPDATE heimdall."Integration" SET follower_count = %s, subscriber_count = %s, '
        "stats_updated_at = now() WHERE id = %s",
        (stats["followers"], stats["subscribers"], args["id"])).rowcount


HANDLERS = {"integration_token": refresh_token, "channel_stats": channel_stats}
