"""Barycenter: the discovery document and the keys of one peer."""

from worker import Failed, Permanent, call


def discover(args):
    try:
        found = call(args["issuer"] + "/.well-known/openid-configuration", timeout=0.5)
        if found["issuer"] != args["issuer"]:
            raise Permanent("the issuer is another one")
        keys = call(found["jwks_uri"], timeout=0.5)["keys"]
    except (Failed, KeyError) as error:
        message = str(error)
        # the peer keeps its status, whatever it did not answer
        error.store = lambda db, final: db.execute(
            "UPDATE barycenter.trusted_peers SET last_discovery_error = %s WHERE id = %s",
            (message, args["id"]))
        raise

    def store(db):
        # pinned keys stay pinned: a rotation is for a person to look at
        return db.execute(
            "UPDATE barycenter.trusted_peers SET jwks_uri = %s, token_endpoint = %s, "
            "verification = 'discovered', last_discovery_refresh = now(), last_discovery_error = NULL, "
            "pinned_jwks = coalesce(pinned_jwks, %s), jwks_rotated = coalesce(pinned_jwks <> %s, false) WHERE id = %s",
            (found["jwks_uri"], found["token_endpoint"], str(keys), str(keys), args["id"])).rowcount
    return store


HANDLERS = {"peer_discovery": discover}
