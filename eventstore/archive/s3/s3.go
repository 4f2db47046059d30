// Package s3 keeps archives in buckets of Amazon S3 and of servers that speak its protocol.
//
// A location is s3://BUCKET/PREFIX, with the query's endpoint=URL for another server than Amazon's, and region=NAME. What names
// somebody comes from the environment: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or else the file of
// AWS_SHARED_CREDENTIALS_FILE, or the role of the machine; AWS_REGION and AWS_ENDPOINT_URL stand in for what the location does not
// say. The bucket has to be there.
//
// Objects are put with their MD5, which the server compares. What is slow or fails for a moment is tried again by the
// client, within the time that its caller has.
package s3

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/tributary-es/tributary/eventstore"
	"github.com/tributary-es/tributary/eventstore/archive"
)

// Scheme is what locations begin with.
const Scheme = "s3://"

// bucket is an archive.Bucket below a prefix.
type bucket struct {
	client *minio.Client
	name   string
	prefix string
}

// Open opens the bucket at a location; whether it can be reached is seen when it is used. Errors: eventstore.ErrInvalid.
func Open(location string) (archive.Bucket, error) {
	u, err := url.Parse(location)
	if err != nil || u.Scheme+"://" != Scheme || u.Host == "" {
		return nil, fmt.Errorf("%w: archive at %s: write it as s3://BUCKET/PREFIX", eventstore.ErrInvalid, location)
	}
	for key := range u.Query() {
		if key != "endpoint" && key != "region" {
			return nil, fmt.Errorf("%w: archive at %s: %s is unknown, there are endpoint and region", eventstore.ErrInvalid, location, key)
		}
	}
	endpoint, err := url.Parse(cmp.Or(u.Query().Get("endpoint"), os.Getenv("AWS_ENDPOINT_URL_S3"), os.Getenv("AWS_ENDPOINT_URL"), "https://s3.amazonaws.com"))
	if err != nil || endpoint.Host == "" || endpoint.Scheme != "http" && endpoint.Scheme != "https" || strings.Trim(endpoint.Path, "/") != "" {
		return nil, fmt.Errorf("%w: archive at %s: its endpoint is not of the form https://HOST:PORT", eventstore.ErrInvalid, location)
	}
	client, err := minio.New(endpoint.Host, &minio.Options{
		Creds: credentials.NewChainCredentials([]credentials.Provider{
			&credentials.EnvAWS{}, &credentials.FileAWSCredentials{}, &credentials.IAM{Client: &http.Client{Timeout: 5 * time.Second}},
		}),
		Secure: endpoint.Scheme == "https",
		Region: cmp.Or(u.Query().Get("region"), os.Getenv("AWS_REGION"), os.Getenv("AWS_DEFAULT_REGION")),
		Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 16, IdleConnTimeout: time.Minute,
			DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, TLSHandshakeTimeout: 10 * time.Second,
			ResponseHeaderTimeout: 30 * time.Second, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		},
		MaxRetries: 4,
	})
	if err != nil {
		return nil, fmt.Errorf("%w: archive at %s: %w", eventstore.ErrInvalid, location, err)
	}
	return &bucket{client, u.Host, strings.Trim(u.Path, "/")}, nil
}

func (b *bucket) key(name string) string { return path.Join(b.prefix, name) }

// Put implements archive.Bucket.
func (b *bucket) Put(ctx context.Context, name string, body []byte) error {
	// In one request: an object that is put in parts is there when the last of them is put together, which takes longer.
	_, err := b.client.PutObject(ctx, b.name, b.key(name), bytes.NewReader(body), int64(len(body)),
		minio.PutObjectOptions{DisableMultipart: true, SendContentMd5: true, ContentType: "application/octet-stream"})
	if err != nil {
		return fmt.Errorf("put %s: %w", name, err)
	}
	return nil
}

// ReadAt implements archive.Bucket.
func (b *bucket) ReadAt(ctx context.Context, name string, p []byte, offset int64) error {
	if len(p) == 0 {
		return nil
	}
	var o minio.GetObjectOptions
	if err := o.SetRange(offset, offset+int64(len(p))-1); err != nil {
		return fmt.Errorf("read %s at %d: %w", name, offset, err)
	}
	object, err := b.client.GetObject(ctx, b.name, b.key(name), o)
	if err == nil {
		defer object.Close()
		_, err = io.ReadFull(object, p)
	}
	code := minio.ToErrorResponse(err).Code
	switch {
	case code == minio.NoSuchKey:
		err = fmt.Errorf("%w: %w", archive.ErrNoObject, err)
	case code == "InvalidRange":
		err = fmt.Errorf("%w: %w", io.ErrUnexpectedEOF, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		err = b.whyShort(ctx, name, offset+int64(len(p)))
	}
	if err != nil {
		return fmt.Errorf("read %s at %d: %w", name, offset, err)
	}
	return nil
}

// errCutOff: an answer ended before its end, which is no fault of the object.
var errCutOff = errors.New("the connection broke in the middle of the answer")

// whyShort says whether it was the object that ended before a byte, io.ErrUnexpectedEOF, or the answer.
func (b *bucket) whyShort(ctx context.Context, name string, end int64) error {
	object, err := b.client.StatObject(ctx, b.name, b.key(name), minio.StatObjectOptions{})
	switch {
	case err != nil:
		return errors.Join(errCutOff, err)
	case object.Size < end:
		return io.ErrUnexpectedEOF
	}
	return errCutOff
}

// List implements archive.Bucket.
func (b *bucket) List(ctx context.Context, prefix string) iter.Seq2[archive.Object, error] {
	return func(yield func(archive.Object, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		below := b.prefix
		if below != "" {
			below += "/"
		}
		for o := range b.client.ListObjects(ctx, b.name, minio.ListObjectsOptions{Prefix: below + prefix, Recursive: true}) {
			if o.Err != nil {
				yield(archive.Object{}, fmt.Errorf("list %s: %w", prefix, o.Err))
				return
			}
			if !yield(archive.Object{Name: strings.TrimPrefix(o.Key, below), Bytes: o.Size}, nil) {
				return
			}
		}
	}
}

// Remove implements archive.Bucket.
func (b *bucket) Remove(ctx context.Context, name string) error {
	if err := b.client.RemoveObject(ctx, b.name, b.key(name), minio.RemoveObjectOptions{}); err != nil {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
