package rights

import "strings"

// actions are the rights that requests to S3 need, by how package store begins what it says of them.
var actions = [][2]string{
	{"store: put ", "s3:PutObject"},
	{"store: get ", "s3:GetObject (or s3:ListBucket, without which an object that is not there is refused, too)"},
	{"store: list ", "s3:ListBucket"},
	{"store: delete ", "s3:DeleteObject"},
}

// OfS3 names the right that an account of S3 lacks, with where all that are needed stand, by the text of an error of
// package store; "" for one that is about something else. S3 refuses a request without saying which right it takes.
func OfS3(text string) string {
	for _, a := range actions {
		if strings.Contains(text, a[0]) && strings.Contains(strings.ToLower(text), "access denied") {
			return "the account lacks the right " + a[1] + ": see deploy/rights/s3-policy.json"
		}
	}
	return ""
}
