"""Uses a catalog through quilt3 as one user and reports what happened, as JSON.

Standard input holds {"catalog", "bearer", "own", "other"}: the catalog's URL, what to present, and
the names of the user and of somebody else. Standard output gets one member per step: {"ok": value}
or {"error": text}. The bearer is written where quilt3 itself would keep it, in the HOME that the
caller made for this. Runs in the environment `quilt`.
"""

import contextlib
import json
import pathlib
import sys

import platformdirs

# Makes quilt3 ask the registry for AWS keys at their first use, instead of taking any from around.
EXPIRED = {
    "access_key": "x",
    "secret_key": "x",
    "token": "x",
    "expiry_time": "1970-01-01T00:00:00Z",
}
FAR_FUTURE = 4102444800


def main():
    asked = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        report = {name: attempt(step) for name, step in steps(asked).items()}
    json.dump(report, sys.stdout)


def attempt(step):
    try:
        return {"ok": step()}
    except Exception as error:  # whatever it is, it is the answer
        return {"error": f"{type(error).__name__}: {error}"}


def steps(asked):
    import quilt3
    import quilt3.admin as admin
    from quilt3.search_util import search_api

    own, other = asked["own"], asked["other"]

    def log_in():
        quilt3.config(asked["catalog"])
        registry = quilt3.session.get_registry_url()
        auth = {"access_token": asked["bearer"], "refresh_token": "", "expires_at": FAR_FUTURE}
        folder = pathlib.Path(platformdirs.user_data_dir("Quilt"))
        (folder / "auth.json").write_text(json.dumps({registry: auth}))
        (folder / "credentials.json").write_text(json.dumps(EXPIRED))
        return [quilt3.logged_in(), registry]

    def read_object(name):
        s3 = quilt3.get_boto3_session().client("s3")
        return s3.get_object(Bucket=f"b-{name}", Key=f"notes/{name}.txt")["Body"].read().decode()

    def browse(name):
        package = quilt3.Package.browse(f"{name}/demo", registry=f"s3://b-{name}")
        return sorted(key for key, _ in package.walk())

    def search(index):
        query = {"query": {"query_string": {"query": "*"}}}
        hits = search_api(query=query, index=index, limit=50)["hits"]["hits"]
        return sorted(hit["_id"] for hit in hits)

    def user_life():
        created = admin.users.create("carol", "carol@example.com", f"role-{own}", [])
        changed = admin.users.set_email("carol", "c@example.com")
        roles = admin.users.add_roles("carol", [f"role-{other}"])
        admin.users.set_admin("carol", True)
        admin.users.set_active("carol", False)
        admin.users.reset_password("carol")
        admin.users.delete("carol")
        return [created.name, changed.email, len(roles.extra_roles), admin.users.get("carol")]

    def settings():
        admin.sso_config.set("version: 1")
        admin.tabulator.set_open_query(True)
        uploader = admin.sso_config.get().uploader.name
        return [uploader, admin.tabulator.get_open_query()]

    def tables():
        bucket = f"b-{own}"
        admin.tabulator.set_table(bucket, "t", "schema: []")
        admin.tabulator.rename_table(bucket, "t", "u")
        return [[table.name, table.config] for table in admin.tabulator.list_tables(bucket)]

    return {
        "log_in": log_in,
        "own_object": lambda: read_object(own),
        "other_object": lambda: read_object(other),
        "own_package": lambda: browse(own),
        "other_package": lambda: browse(other),
        "search_own": lambda: search(f"b-{own},b-{own}_packages"),
        "search_other": lambda: search(f"b-{other},b-{other}_packages"),
        "search_all": lambda: search("_all"),
        "buckets": lambda: [bucket.name for bucket in admin.buckets.list()],
        "users": lambda: [user.name for user in admin.users.list()],
        "roles": lambda: [role.name for role in admin.roles.list()],
        "user_life": user_life,
        "settings": settings,
        "tables": tables,
    }


if __name__ == "__main__":
    main()
