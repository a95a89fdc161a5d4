"""Barycenter: the discovery document and the keys of one peer."""

from worker import Failed, Permanent, Snooze, call


def discover(args):
    def store_error(db):
        # the peer keeps its status, whatever it did not answer
        db.execute("UPDATE barycenter.trusted_peers SET last_discovery_error = %s WHERE id = %s",
                   (message, args["id"]))

    try:
        found = call(args["issuer"] + "/.well-known/openid-configuration", timeout=0.5)
        keys = call(found["jwks_uri"], timeout=0.5)
        if found.get("issuer") != args["issuer"]:
            raise Permanent("the issuer is another one")
    except Snooze:
        raise
    except (Failed, KeyError) as error:
        message = str(error)
        raise (error.__class__ if isinstance(error, Failed) else Failed)(message, store_error)

    def store(db):
        # pinned keys stay pinned: a rotation is for a person to look at
        return db.execute(
            "UPDATE barycenter.trusted_peers SET jwks_uri = %s, last_discovery_refresh = now(), "
            "last_discovery_error = NULL, pinned_jwks = coalesce(pinned_jwks, %s), "
            "jwks_rotated = pinned_jwks IS NOT NULL AND pinned_jwks <> %s WHERE id = %s",
            (found["jwks_uri"], str(keys["keys"]), str(keys["keys"]), args["id"])).rowcount
    return store


HANDLERS = {"peer_discovery": discover}
