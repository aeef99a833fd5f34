-- What `tests/bench_review.py` fills its database with. Verdict number n is one of the newest, which are open, or decided, or was allowed.
-- Of the open ones 1 % are blind, 3 % wait for a second opinion, 1 % for a lead, and 5 % are leased.
CREATE TEMPORARY TABLE numbers AS
SELECT n, n % 100 AS m, CASE WHEN n >= {first_open} THEN 'open' WHEN n % 9 < 2 THEN 'decided' ELSE 'allowed' END AS fate,
       ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid AS key,
       now() - interval '2 hours' - interval '1.1 second' * ({wanted} - n) AS at,
       CASE WHEN n % 3 = 0 THEN 'hold' ELSE 'block' END AS stopped,
       ({categories})[1 + n % array_length({categories}, 1)] AS category,
       (array['critical', 'major', 'major', 'minor', 'minor'])[1 + n % 5] AS severity,
       ({users})[1 + n % 20] AS reviewer
FROM generate_series({have}, {wanted} - 1) AS n;

INSERT INTO verdicts_exchange (id, app_id, query, response, conversation_id, metadata, body_digest, status, policy_id, attempts,
                               sweeps, patient_waiting, enqueued_at, created_at)
SELECT key, ({apps})[1 + n % 3],
       CASE fate WHEN 'open' THEN 'How should I take my tablets number ' || n || ' and may I have a glass of wine with them at dinner?'
                 ELSE 'May I?' END,
       s[1 + n % 10] || CASE fate WHEN 'open' THEN ' ' || s[1 + n / 7 % 10] || ' ' || s[1 + n / 31 % 10] || ' '
       || s[1 + n / 101 % 10] || ' ' || s[1 + n / 307 % 10] || ' ' || s[1 + n / 1009 % 10] ELSE '' END
       || CASE WHEN n % 4999 = 0 THEN ' Ask for {rare} instead.' ELSE '' END,
       '', '{{}}', '-', 'decided', {policy}, 1, 0, n % 4 > 0, at, at
FROM numbers, (SELECT {sentences} AS s) AS sentences;

INSERT INTO verdicts_verdict (exchange_id, decision, category, categories, severity, reason, confidence, layer, versions,
                              latency_ms, cost_usd, decided_at, policy_id, audit_probability)
SELECT key, CASE fate WHEN 'allowed' THEN 'allow' ELSE stopped END, CASE fate WHEN 'allowed' THEN 'safe' ELSE category END, '[]',
       CASE fate WHEN 'allowed' THEN '' ELSE severity END, 'Found by a rule.', 0.9, 'rules', '{{}}', 12, 0, at, {policy},
       CASE fate WHEN 'allowed' THEN 0.01 END
FROM numbers;

INSERT INTO verdicts_reviewitem (id, exchange_id, kind, status, stage, round, severity, category, layer, language, reasons, blind,
                                 due_at, created_at, inclusion_probability, leased_by_id, lease_token, lease_expires_at)
SELECT n + 1, key, CASE WHEN m = 99 THEN 'audit' WHEN stopped = 'hold' THEN 'held' ELSE 'blocked' END, fate,
       CASE WHEN fate = 'decided' OR m > 3 THEN 'first' WHEN m = 3 THEN 'adjudication' ELSE 'second' END, 1, severity, category,
       (array['rules', 'finetuned', 'judge'])[1 + n % 3], (array['en', 'en', 'en', 'es'])[1 + n % 4], '["uncertain"]', m = 99,
       now() + interval '1 second' * (n::bigint * 7919 % 21600 - 7200), at, CASE m WHEN 99 THEN 0.01 ELSE 1 END,
       CASE WHEN fate = 'open' AND n % 20 = 7 THEN ({users})[2 + n / 20 % 19] END,
       CASE WHEN fate = 'open' AND n % 20 = 7 THEN gen_random_uuid() END,
       CASE WHEN fate = 'open' AND n % 20 = 7 THEN now() + interval '1 day' END
FROM numbers WHERE fate <> 'allowed';

INSERT INTO review_review (item_id, reviewer_id, round, stage, blind, truth, categories, severity, spans, note, corrected_answer,
                           confirms, seconds, created_at)
SELECT n + 1, reviewer, 1, 'first', false, CASE WHEN fate = 'open' THEN 'unsure' WHEN n % 7 = 0 THEN 'safe' ELSE 'unsafe' END,
       CASE WHEN fate = 'open' OR n % 7 = 0 THEN '[]' ELSE '["misinformation"]' END::jsonb,
       CASE WHEN fate = 'open' OR n % 7 = 0 THEN '' ELSE 'major' END, '[]', '', '',
       CASE WHEN fate = 'decided' AND stopped = 'block' THEN n % 7 > 0 END, 40, at + interval '5 minutes'
FROM numbers WHERE fate = 'decided' OR (fate = 'open' AND m <= 3);

INSERT INTO review_label (exchange_id, review_id, basis, is_current, value, categories, severity, inclusion_probability,
                          created_at)
SELECT numbers.key, r.id, 'single', true, r.truth, r.categories, r.severity, 1, r.created_at
FROM numbers JOIN review_review r ON r.item_id = n + 1 WHERE fate = 'decided';

INSERT INTO core_auditevent (at, actor, action, target, data, previous, digest)
SELECT at, 'reviewer1', 'item.view', 'exchange:' || key, '{{}}', 'before-' || md5(n::text), 'of-' || md5(n::text)
FROM numbers WHERE n % 5 = 0;

INSERT INTO review_skip (item_id, reviewer_id, created_at)
SELECT n + 1, ({users})[1], now() FROM numbers WHERE fate = 'open' AND n % 40 = 0 AND n < 10000;

SELECT setval(pg_get_serial_sequence('verdicts_reviewitem', 'id'), {wanted});

DROP TABLE numbers;
