package config

import (
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// externalID and mostExternalID are what AWS takes for one.
var externalID = regexp.MustCompile(`^[\w+=,.@:/-]{2,}$`)

const mostExternalID = 1224

// checkS3Credentials checks where the keys come from, and that nothing is given which would then not be used.
func checkS3Credentials(k *checker, s *S3) {
	given := s.AccessKey.IsSet() || s.SecretKey.IsSet() || s.SessionToken.IsSet()
	switch from := s.Credentials; {
	case from == "static" || from == "assume_role" && given:
		if !s.AccessKey.IsSet() {
			k.add("delta.s3.access_key", "is missing: give {env: NAME} or {file: PATH}")
		}
		if !s.SecretKey.IsSet() {
			k.add("delta.s3.secret_key", "is missing: give {env: NAME} or {file: PATH}")
		}
	case given && from != "assume_role":
		k.add("delta.s3.credentials", "is %s, and keys are given besides: take one of them away", from)
	}
	for _, only := range []struct{ key, value, of string }{
		{"file", s.File, "file chain assume_role"}, {"profile", s.Profile, "file chain assume_role"},
		{"sts_endpoint", s.STSEndpoint, "web_identity assume_role chain"},
		{"role_arn", s.RoleARN, "web_identity assume_role chain"},
		{"token_file", s.TokenFile, "web_identity chain"}, {"external_id", s.ExternalID, "assume_role"},
	} {
		if only.value != "" && !slices.Contains(strings.Fields(only.of), s.Credentials) {
			k.add("delta.s3."+only.key, "is not used with credentials: %s", s.Credentials)
		}
	}
	if s.STSEndpoint != "" {
		u, err := url.Parse(s.STSEndpoint)
		if err != nil || u.User != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			k.add("delta.s3.sts_endpoint", "must be https://host:port or http://host:port, without user or password")
		} else {
			k.host("delta.s3.sts_endpoint", u)
		}
	}
	if s.ExternalID != "" && (!externalID.MatchString(s.ExternalID) || len(s.ExternalID) > mostExternalID) {
		k.add("delta.s3.external_id", "%q is none: AWS takes 2 to %d letters, digits and _+=,.@:/-", s.ExternalID,
			mostExternalID)
	}
	checkSSE(k, s)
}

func checkSSE(k *checker, s *S3) {
	e := s.SSE
	if e == nil {
		return
	}
	switch {
	case e.KMSKey != "" && e.Kind != "kms":
		k.add("delta.s3.sse.kms_key", "is for kind: kms; take it away")
	case e.Key.IsSet() && e.Kind != "c":
		k.add("delta.s3.sse.key", "is for kind: c; take it away")
	case e.Kind == "c" && !e.Key.IsSet():
		k.add("delta.s3.sse.key", "is missing: give {env: NAME} or {file: PATH}")
	case e.Kind == "c" && strings.HasPrefix(s.Endpoint, "http://"):
		k.add("delta.s3.sse.kind", "c sends the key with each request: use an https:// endpoint")
	case e.Kind == "c" && e.Key.Value() != "": // it is empty before the file has been read
		if _, err := e.CustomerKey(); err != nil {
			k.add("delta.s3.sse.key", "%v", err)
		}
	}
}
