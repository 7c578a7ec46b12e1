"""Objects in the bucket of the tests."""


def put(s3, **objects):
    for key, body in objects.items():
        s3.put_object(Bucket="bucket", Key=key, Body=body)


def keys(s3, prefix=""):
    return [one["Key"] for one in s3.list_objects_v2(Bucket="bucket", Prefix=prefix).get("Contents", [])]
