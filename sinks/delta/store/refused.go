package store

import (
	"errors"

	"github.com/minio/minio-go/v7"

	"deckle/sinks/rights"
)

// refusals are the codes by which a store says that the same request will be refused again until somebody acts, and
// what that is.
var refusals = map[string]string{
	minio.NoSuchBucket:             "create the bucket, or correct delta.s3.bucket",
	"InvalidBucketName":            "correct delta.s3.bucket",
	"InvalidAccessKeyId":           "correct the access key of delta.s3",
	"SignatureDoesNotMatch":        "correct the secret key of delta.s3",
	"InvalidToken":                 "correct the session token of delta.s3",
	"AccessDenied":                 "give the keys the rights of deploy/rights/s3-policy.json",
	"AccountProblem":               "ask whoever runs the store",
	"AllAccessDisabled":            "ask whoever runs the store",
	"AuthorizationHeaderMalformed": "correct delta.s3.region",
	"PermanentRedirect":            "correct delta.s3.endpoint and delta.s3.region: the bucket is elsewhere",
	"RequestTimeTooSkewed":         "set the clock of this machine",
	"NotImplemented":               "use a store that has conditional puts (docs/operations.md, Object stores)",
}

// Refused says whether an error of a store stays until somebody acts, and what to do: its bucket, keys and rights, and
// that it does not honour conditional puts. What a store that is down or busy says is none.
func Refused(err error) (todo string, refused bool) {
	if errors.Is(err, ErrUnconditional) {
		return "use a store that has conditional puts (docs/operations.md, Object stores)", true
	}
	var r minio.ErrorResponse
	if !errors.As(err, &r) {
		return "", false
	}
	if lacks := rights.OfS3(err.Error()); lacks != "" && r.Code == "AccessDenied" {
		return lacks, true
	}
	todo, refused = refusals[r.Code]
	return todo, refused
}
