"""Fills a moto server with the world of the demo and of the quilt suites, and describes it as JSON.

    moto_setup.py ENDPOINT [USER ...]      users: alice and bob where none is named

Each user gets a versioned bucket with one object and one Quilt package, and a role that may touch
that bucket alone. A further IAM user, the registry, may assume these roles: the catalog double
uses its key. IAM and signature checks are switched on last, so that from then on moto refuses what
AWS would. The first user administers the catalog, so that both answers of an admin tool are seen.

Runs in the environment `quilt` (boto3 and quilt3), starts nothing, and must be run once per server.
The description, with the registry's secret key, goes to standard output and nowhere else.
"""

import contextlib
import datetime
import json
import os
import pathlib
import sys
import tempfile
import urllib.request

REGION = "us-east-1"
REGISTRY_USER = "registry"


def main():
    if len(sys.argv) < 2:
        sys.exit("usage: moto_setup.py ENDPOINT [USER ...]")
    endpoint, names = sys.argv[1], sys.argv[2:] or ["alice", "bob"]
    with tempfile.TemporaryDirectory() as home, contextlib.redirect_stdout(sys.stderr):
        set_environment(endpoint, home)
        make_workgroup()
        world = {
            "awsEndpoint": endpoint,
            "region": REGION,
            "registryKey": make_registry_key(),
            "users": [make_user(name, name == names[0]) for name in names],
        }
        enforce_iam(endpoint)
    json.dump(world, sys.stdout)
    sys.stdout.write("\n")


def set_environment(endpoint, home):
    """Points boto3 and quilt3 at moto with nothing of the caller's: both read it when imported."""
    for name in [n for n in os.environ if n.startswith("AWS_") or n.lower().endswith("_proxy")]:
        del os.environ[name]
    os.environ.update(
        HOME=home,
        XDG_DATA_HOME=f"{home}/data",
        XDG_CACHE_HOME=f"{home}/cache",
        AWS_ENDPOINT_URL=endpoint,
        AWS_DEFAULT_REGION=REGION,
        AWS_ACCESS_KEY_ID="setup",
        AWS_SECRET_ACCESS_KEY="setup",
        AWS_EC2_METADATA_DISABLED="true",
        QUILT_DISABLE_USAGE_METRICS="1",
        QUILT_MINIMIZE_STDOUT="true",
    )


def make_registry_key():
    """The IAM user that stands for the registry, and its access key."""
    import boto3

    iam = boto3.client("iam")
    iam.create_user(UserName=REGISTRY_USER)
    statement = {
        "Effect": "Allow",
        "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
        "Resource": "arn:aws:iam::*:role/role-*",
    }
    iam.put_user_policy(
        UserName=REGISTRY_USER, PolicyName="assume-user-roles", PolicyDocument=policy(statement)
    )
    key = iam.create_access_key(UserName=REGISTRY_USER)["AccessKey"]
    return {"accessKeyId": key["AccessKeyId"], "secretAccessKey": key["SecretAccessKey"]}


def make_workgroup():
    """The workgroup of Athena that a Quilt stack brings: quilt-mcp prefers it to `primary`."""
    import boto3

    boto3.client("athena").create_work_group(
        Name="quilt-queries",
        Configuration={"ResultConfiguration": {"OutputLocation": "s3://query-results/"}},
    )


def make_user(name, is_admin):
    """A user's bucket, what is in it, and the role that opens it and nothing else."""
    import boto3

    bucket = f"b-{name}"
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return {
        "name": name,
        "email": f"{name}@example.com",
        "isAdmin": is_admin,
        "roleArn": make_role(name, bucket),
        "buckets": [
            {
                "name": bucket,
                "objects": [put_object(s3, bucket, name)],
                "packages": [push_package(bucket, name)],
            }
        ],
    }


def make_role(name, bucket):
    import boto3

    iam = boto3.client("iam")
    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
    }
    role = iam.create_role(RoleName=f"role-{name}", AssumeRolePolicyDocument=policy(trust))["Role"]
    own_bucket = {
        "Effect": "Allow",
        "Action": "s3:*",
        "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
    }
    # Queries run under the user's own keys; what they may read is still up to S3.
    queries = {
        "Effect": "Allow",
        "Action": ["sts:GetCallerIdentity", "athena:*", "glue:Get*"],
        "Resource": "*",
    }
    iam.put_role_policy(
        RoleName=f"role-{name}", PolicyName="own-bucket", PolicyDocument=policy(own_bucket, queries)
    )
    return role["Arn"]


def put_object(s3, bucket, name):
    key, text = f"notes/{name}.txt", f"a note that only {name} may read\n"
    put = s3.put_object(Bucket=bucket, Key=key, Body=text.encode(), ContentType="text/plain")
    head = s3.head_object(Bucket=bucket, Key=key)
    return {
        "key": key,
        "size": head["ContentLength"],
        "lastModified": head["LastModified"].isoformat(),
        "contentType": "text/plain",
        "versionId": put["VersionId"],
        "text": text,
    }


def push_package(bucket, name):
    """A package of two files, pushed by quilt3 itself so that its manifest is a real one."""
    import quilt3

    files = {
        "README.md": f"# The package of {name}\n",
        "measurements.csv": f"owner,value\n{name},1\n{name},2\n",
    }
    package = quilt3.Package()
    with tempfile.TemporaryDirectory() as folder:
        for key, text in files.items():
            path = pathlib.Path(folder, key)
            path.write_text(text)
            package.set(key, str(path))
        package.set_meta({"owner": name})
        pushed = package.push(
            f"{name}/demo", registry=f"s3://{bucket}", message=f"made for {name}", force=True
        )
    return {
        "name": f"{name}/demo",
        "hash": pushed.top_hash,
        "lastModified": datetime.datetime.now(datetime.UTC).isoformat(),
        "entries": [
            {
                "key": key,
                "physicalKey": str(entry.physical_key),
                "size": entry.size,
                "hash": entry.hash["value"],
            }
            for key, entry in pushed.walk()
        ],
    }


def enforce_iam(endpoint):
    """From now on every call needs a valid signature and a policy that allows it."""
    # The number of calls that stay unchecked. As a form, urllib's default, it would be lost.
    request = urllib.request.Request(
        f"{endpoint}/moto-api/reset-auth",
        data=b"0",
        headers={"Content-Type": "text/plain"},
        method="POST",
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as response:
        if response.status != 200:
            sys.exit(f"moto did not switch IAM on: {response.status}")


def policy(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


if __name__ == "__main__":
    main()
