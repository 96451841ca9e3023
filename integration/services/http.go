package services

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// httpGet asks a node and, if it is asked too often, asks again when it says so.
func httpGet(ctx context.Context, cl *http.Client, url, token string) (body []byte, status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	for {
		var wait string
		if body, status, wait, err = httpAsk(ctx, cl, url, token); status != http.StatusTooManyRequests {
			return body, status, err
		}
		seconds, err := strconv.Atoi(wait)
		if err != nil {
			return body, status, err
		}
		select {
		case <-time.After(time.Duration(seconds) * time.Second):
		case <-ctx.Done():
			return body, status, nil
		}
	}
}

func httpAsk(
	ctx context.Context, cl *http.Client, url, token string,
) (body []byte, status int, wait string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, "", fmt.Errorf("services: %w", err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := cl.Do(req)
	if err != nil {
		return nil, 0, "", fmt.Errorf("services: %w", err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(res.Body, 64<<20))
	if err != nil {
		return nil, 0, "", fmt.Errorf("services: %s: %w", url, err)
	}
	return body, res.StatusCode, res.Header.Get("Retry-After"), nil
}
