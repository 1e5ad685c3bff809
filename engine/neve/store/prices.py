"""What a store charges: list prices of S3 Standard, us-east-1, in dollars (aws.amazon.com/s3/pricing)."""

GET = 0.0004 / 1000
WRITE_OR_LIST = 0.005 / 1000
"""PUT, LIST and each request of an upload in parts. DELETE is free."""
GB_MONTH = 0.023
"""A gigabyte (10⁹ bytes) stored for a month, of the first 50 TB."""
