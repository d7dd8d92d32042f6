BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0008');
CREATE TABLE api_key (
	id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	key_hash VARCHAR NOT NULL, 
	scopes JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	expires_at DATETIME, 
	revoked_at DATETIME, 
	PRIMARY KEY (id), 
	UNIQUE (key_hash)
);
INSERT INTO "api_key" VALUES('9cffdebd6c','shop','3b3929aac83877d601a98e99489f38292d0a087f5d4e961473038a6ccbec331f','["send", "read"]','2026-11-29 08:49:03.724430',NULL,NULL);
CREATE TABLE audit_checkpoint (
	seal_id INTEGER NOT NULL, 
	last_audit_id INTEGER NOT NULL, 
	digest VARCHAR NOT NULL, 
	rows_removed INTEGER NOT NULL, 
	created_at DATETIME NOT NULL, 
	key_id VARCHAR NOT NULL, 
	mac VARCHAR NOT NULL, 
	PRIMARY KEY (seal_id)
);
CREATE TABLE audit_log (
	id INTEGER NOT NULL, 
	action VARCHAR(32) NOT NULL, 
	actor VARCHAR NOT NULL, 
	client_id VARCHAR, 
	message_id VARCHAR(36), 
	metadata JSON, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	CONSTRAINT auditaction_known CHECK (action IN ('OTP_SEND_REQUESTED', 'OTP_SENT', 'OTP_VERIFY_SUCCESS', 'OTP_VERIFY_FAILED', 'OTP_RATE_LIMITED', 'OTP_LOCKED_OUT', 'OTP_UNLOCKED', 'NOTIFICATION_QUEUED', 'NOTIFICATION_BLOCKED', 'NOTIFICATION_DUPLICATE', 'NOTIFICATION_THROTTLED', 'NOTIFICATION_SENT', 'NOTIFICATION_RETRY_SCHEDULED', 'NOTIFICATION_IN_DOUBT', 'NOTIFICATION_FAILED', 'NOTIFICATION_EXPIRED', 'NOTIFICATION_CANCELED', 'NOTIFICATION_DELIVERED', 'NOTIFICATION_BOUNCED', 'STRIPE_EVENT_RECEIVED', 'STRIPE_EVENT_PROCESSED', 'STRIPE_EVENT_FAILED', 'STRIPE_EVENT_REPLAYED', 'TEMPLATE_SEEDED', 'CLIENT_UPDATED', 'CLIENT_ERASED', 'SUPPRESSION_ADDED', 'SUPPRESSION_REMOVED', 'SPIKE_RAISED', 'SPIKE_ESCALATED', 'SPIKE_CLEARED', 'API_KEY_CREATED', 'API_KEY_REVOKED', 'LIMIT_CHANGED', 'PAUSED', 'RESUMED', 'OPERATOR_ACTION'))
);
INSERT INTO "audit_log" VALUES(1,'TEMPLATE_SEEDED','cli:root',NULL,NULL,'{"template_key": "COMPLIANCE_EXPIRY_REMINDER", "version": 1, "changed": []}','2026-11-29 08:48:54.730624');
INSERT INTO "audit_log" VALUES(2,'TEMPLATE_SEEDED','cli:root',NULL,NULL,'{"template_key": "COMPLIANCE_EXPIRY_REMINDER_SMS", "version": 1, "changed": []}','2026-11-29 08:48:54.730624');
INSERT INTO "audit_log" VALUES(3,'TEMPLATE_SEEDED','cli:root',NULL,NULL,'{"template_key": "COMPLIANCE_SLA_ALERT", "version": 1, "changed": []}','2026-11-29 08:48:54.730624');
INSERT INTO "audit_log" VALUES(4,'TEMPLATE_SEEDED','cli:root',NULL,NULL,'{"template_key": "NOTIFICATION_SPIKE_ALERT_ADMIN", "version": 1, "changed": []}','2026-11-29 08:48:54.730624');
INSERT INTO "audit_log" VALUES(5,'TEMPLATE_SEEDED','cli:root',NULL,NULL,'{"template_key": "OPS_ALERT_NOTIFICATION_SPIKE", "version": 1, "changed": []}','2026-11-29 08:48:54.730624');
INSERT INTO "audit_log" VALUES(6,'TEMPLATE_SEEDED','cli:root',NULL,NULL,'{"template_key": "OPS_ALERT_SMS", "version": 1, "changed": []}','2026-11-29 08:48:54.730624');
INSERT INTO "audit_log" VALUES(7,'TEMPLATE_SEEDED','cli:root',NULL,NULL,'{"template_key": "OTP_CODE_SMS", "version": 1, "changed": []}','2026-11-29 08:48:54.730624');
INSERT INTO "audit_log" VALUES(8,'TEMPLATE_SEEDED','cli:root',NULL,NULL,'{"template_key": "PASSWORD_RESET", "version": 1, "changed": []}','2026-11-29 08:48:54.730624');
INSERT INTO "audit_log" VALUES(9,'TEMPLATE_SEEDED','cli:root',NULL,NULL,'{"template_key": "PAYMENT_FAILED", "version": 1, "changed": []}','2026-11-29 08:48:54.730624');
INSERT INTO "audit_log" VALUES(10,'TEMPLATE_SEEDED','cli:root',NULL,NULL,'{"template_key": "PROVISIONING_FAILED_ADMIN", "version": 1, "changed": []}','2026-11-29 08:48:54.730624');
INSERT INTO "audit_log" VALUES(11,'TEMPLATE_SEEDED','cli:root',NULL,NULL,'{"template_key": "STRIPE_WEBHOOK_FAILURE_ADMIN", "version": 1, "changed": []}','2026-11-29 08:48:54.730624');
INSERT INTO "audit_log" VALUES(12,'TEMPLATE_SEEDED','cli:root',NULL,NULL,'{"template_key": "SUBSCRIPTION_CANCELED", "version": 1, "changed": []}','2026-11-29 08:48:54.730624');
INSERT INTO "audit_log" VALUES(13,'TEMPLATE_SEEDED','cli:root',NULL,NULL,'{"template_key": "SUBSCRIPTION_CONFIRMED", "version": 1, "changed": []}','2026-11-29 08:48:54.730624');
INSERT INTO "audit_log" VALUES(14,'TEMPLATE_SEEDED','cli:root',NULL,NULL,'{"template_key": "WELCOME_EMAIL", "version": 1, "changed": []}','2026-11-29 08:48:54.730624');
INSERT INTO "audit_log" VALUES(15,'CLIENT_UPDATED','cli:root','acme',NULL,'{"created":true,"fields":["email","name","phone_e164","plan","provisioning_status","sms_enabled","subscription_status"]}','2026-11-29 08:48:56.073033');
INSERT INTO "audit_log" VALUES(16,'CLIENT_UPDATED','cli:root','beta',NULL,'{"created":true,"fields":["email","name"]}','2026-11-29 08:48:57.203232');
INSERT INTO "audit_log" VALUES(17,'NOTIFICATION_QUEUED','cli:root','acme','01a2267e-41f8-71a0-be95-b4f4dc95c2e0','{"template_key":"WELCOME_EMAIL","gates":"+-++++--+--++"}','2026-11-29 08:48:58.321376');
INSERT INTO "audit_log" VALUES(18,'NOTIFICATION_BLOCKED','cli:root','beta','01a2267e-464b-72b9-808a-40492b9716fa','{"template_key":"WELCOME_EMAIL","reason":"PROVISIONING_INCOMPLETE","gates":"+-++++--x--++","refusals":{"PROVISIONING_INCOMPLETE":"provisioning is PENDING, not COMPLETED"}}','2026-11-29 08:48:59.427165');
INSERT INTO "audit_log" VALUES(19,'NOTIFICATION_SENT','vm:23066:e779c5','acme','01a2267e-41f8-71a0-be95-b4f4dc95c2e0','{"attempt":1,"seconds":0.006,"provider_message_id":"fa040b67-cffa-4a60-954b-bdd5467bbd46"}','2026-11-29 08:49:00.792686');
INSERT INTO "audit_log" VALUES(20,'NOTIFICATION_BLOCKED','cli:root','acme','01a2267e-4ef3-7532-9363-43a95838320c','{"template_key":"WELCOME_EMAIL","reason":"RATE_LIMITED","gates":"+-++++--+--+x","refusals":{"RATE_LIMITED":"1 of at most 1 sends in the last 24 h"}}','2026-11-29 08:49:01.638351');
INSERT INTO "audit_log" VALUES(21,'SUPPRESSION_ADDED','cli:root',NULL,NULL,'{"channel": "EMAIL", "recipient_hash": "2dee19ae4db574a5455ea1bcaf06d068", "reason": "MANUAL"}','2026-11-29 08:49:02.866468');
INSERT INTO "audit_log" VALUES(22,'API_KEY_CREATED','cli:root',NULL,NULL,'{"key_id": "9cffdebd6c", "name": "shop", "scopes": ["send", "read"], "expires_at": null}','2026-11-29 08:49:03.724430');
INSERT INTO "audit_log" VALUES(23,'PAUSED','cli:root',NULL,NULL,'{"scope": "channel SMS", "reason": "invoice unpaid"}','2026-11-29 08:49:04.777021');
INSERT INTO "audit_log" VALUES(24,'LIMIT_CHANGED','cli:root',NULL,NULL,'{"channel": "EMAIL", "per_minute_limit": 300}','2026-11-29 08:49:05.804625');
INSERT INTO "audit_log" VALUES(25,'NOTIFICATION_QUEUED','cli:root','acme','01a2267e-66d6-734b-87c3-49962fc37e64','{"template_key":"PASSWORD_RESET","gates":"+-++++--+--++"}','2026-11-29 08:49:07.756618');
CREATE TABLE audit_seal (
	id INTEGER NOT NULL, 
	first_audit_id INTEGER NOT NULL, 
	last_audit_id INTEGER NOT NULL, 
	row_count INTEGER NOT NULL, 
	row_hashes BLOB NOT NULL, 
	previous_digest VARCHAR NOT NULL, 
	key_id VARCHAR NOT NULL, 
	sealed_at DATETIME NOT NULL, 
	digest VARCHAR NOT NULL, 
	mac VARCHAR NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "audit_seal" VALUES(1,1,24,24,X'0000000000000001E29BA550A0651BF8ACD492C561142B663E6A1A422F3CFD239330D5254E8384BA0000000000000002B5F48DF431FDE2600B95D63CB7250F1061C5AD1D410A9D732EF41C579D69F05D0000000000000003F44699831DF266ACC4CD70F01FEAF28A112EB0105181BA340AF34ED7373564D800000000000000042479A7847B3474A6D463B7282669E1E852F2690F8823191F3545C17FABA0D0E00000000000000005FE0DB6E6685EB97ED2DCD83ACF4BFC22C8C1E7D67CB8827E06E65A35431833B10000000000000006BFD9CF866E46C30BF95D953A35053BB2C273118D9C1E58E465E9B8C4E24E73EC0000000000000007AAA83871C102D38277EA91E6FEF627EF02AA82BF163D56C8AD27B3663D3DEB060000000000000008729471492C8CFD23035385639EF4854F54D1529C1F455DC819A70B9B9D4792B70000000000000009989188602E663B087184AB35541152988FA6C3B56E35BBE3134FF78935BE01AC000000000000000A78DFF93786F3ECB6C3128C8F543BF20FBFE74FE592B7CF41B56975CE6F2E5C84000000000000000B7828FDAD2F8E1838D3FD7659F4DF54CFE990DFE5037825DEA14B01E6EDC60FFC000000000000000C2E7C2A3D493D0B6747E5DD2915DE9C5A3587CDB7178D37BE070DDCF492E80018000000000000000D3ACFD311BA3F4365C94EE80ED243B664174334205039196BAAD25DD94A44C3D5000000000000000ECADD0E60C5E46BF6AF863A136864678DB92AE5A6EB9C808F8658F23EE5945027000000000000000FBF1B68818DC1B7A380F0D7B9A9533D5A86D6BB1A809812087D5DD93C7BA6E7EC0000000000000010EF708DA05109DA98A9E7A470529D7BAA29A50C52E270CEE1152490FF513821E9000000000000001123D5D0C25F371EF2F1B79F84284D7A50FBC2B0C1DD7DA1A23E74A89120789C230000000000000012513AAEB31D3E74D41C42F575743BB4A1D8DF860B05193EE25C1CE343D0EDEF800000000000000013AF70EA0C0C61E92BEBC3D86F5925478A65FF03097AD93BED1B386C268EBA4B750000000000000014EE27AECA9CF5C13329BDD6499CA08ABF902735BBB79290705C6A2241911AB9740000000000000015B9D40D92C21FDAB51683FDF88C9CC9DB6186F00A5F65F3B05A0305F3AA6C295E00000000000000169464F45E87B8DB341C79540C2CEA467ACBDAD7A2785E7B0D3A02676A78FEA112000000000000001786C5071CF77230086D35D1184E0A5986A7467F900EDEF6D30650056DD5F071F1000000000000001836009C2EDF0620E9315AFAC5C16532D40F704BCEB6D149FDB60D94F329C48D3B','0000000000000000000000000000000000000000000000000000000000000000','3d022630','2026-11-29 08:49:06.909695','31629ee45577f1cacd1713a8eb39c885c9ebe9a38f76a25bd97901a6dc26e57d','abdb2602a4b41bac2580e8d6adf6ab9a2223766764f933f84a6b42e9014c05fd');
CREATE TABLE client (
	id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	email VARCHAR, 
	phone_e164 VARCHAR, 
	timezone VARCHAR NOT NULL, 
	locale VARCHAR NOT NULL, 
	"plan" VARCHAR, 
	provisioning_status VARCHAR(32) NOT NULL, 
	subscription_status VARCHAR(32) NOT NULL, 
	sms_enabled BOOLEAN NOT NULL, 
	stripe_customer_id VARCHAR, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	erased_at DATETIME, 
	PRIMARY KEY (id), 
	UNIQUE (stripe_customer_id), 
	CONSTRAINT provisioningstatus_known CHECK (provisioning_status IN ('PENDING', 'IN_PROGRESS', 'COMPLETED', 'FAILED')), 
	CONSTRAINT subscriptionstatus_known CHECK (subscription_status IN ('none', 'trialing', 'active', 'past_due', 'canceled', 'unpaid', 'incomplete', 'incomplete_expired', 'paused'))
);
INSERT INTO "client" VALUES('acme','Acme GmbH','ops@acme.example','+4915112345678','UTC','en','PRO','COMPLETED','active',1,NULL,'2026-11-29 08:48:56.073033','2026-11-29 08:48:56.073033',NULL);
INSERT INTO "client" VALUES('beta','Beta AG','it@beta.example',NULL,'UTC','en',NULL,'PENDING','none',0,NULL,'2026-11-29 08:48:57.203232','2026-11-29 08:48:57.203232',NULL);
CREATE TABLE compliance_item (
	id INTEGER NOT NULL, 
	client_id VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	reference VARCHAR NOT NULL, 
	expires_on DATE NOT NULL, 
	created_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, asked_for DATE, asked_window INTEGER, asked_at DATETIME, reminded BOOLEAN DEFAULT 0 NOT NULL, overdue_for DATE, overdue_at DATETIME, 
	PRIMARY KEY (id), 
	FOREIGN KEY(client_id) REFERENCES client (id), 
	UNIQUE (client_id, reference)
);
CREATE TABLE early_receipt (
	id INTEGER NOT NULL, 
	provider VARCHAR NOT NULL, 
	message_id VARCHAR(36), 
	provider_message_id VARCHAR, 
	receipt JSON NOT NULL, 
	received_at DATETIME NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE job_run (
	id INTEGER NOT NULL, 
	name VARCHAR NOT NULL, 
	worker VARCHAR NOT NULL, 
	outcome VARCHAR(32) NOT NULL, 
	summary VARCHAR, 
	started_at DATETIME NOT NULL, 
	finished_at DATETIME, due_at DATETIME DEFAULT '1970-01-01 00:00:00' NOT NULL, attempt INTEGER DEFAULT '1' NOT NULL, lease_until DATETIME, 
	PRIMARY KEY (id), 
	CONSTRAINT joboutcome_known CHECK (outcome IN ('RUNNING', 'DONE', 'FAILED'))
);
INSERT INTO "job_run" VALUES(1,'audit_seal','vm:23091:42ca17','DONE','24 audit rows sealed; head 1:31629ee45577f1cacd1713a8eb39c885c9ebe9a38f76a25bd97901a6dc26e57d','2026-11-29 08:49:06.880460','2026-11-29 08:49:06.934623','2026-11-29 08:49:00.000000',1,NULL);
CREATE TABLE message_log (
	id VARCHAR(36) NOT NULL, 
	idempotency_key VARCHAR, 
	fingerprint VARCHAR, 
	client_id VARCHAR, 
	channel VARCHAR(32) NOT NULL, 
	audience VARCHAR(32) NOT NULL, 
	template_key VARCHAR NOT NULL, 
	template_version INTEGER NOT NULL, 
	recipient VARCHAR, 
	recipient_hash VARCHAR, 
	subject VARCHAR, 
	source VARCHAR NOT NULL, 
	source_ref VARCHAR, 
	rate_subject VARCHAR NOT NULL, 
	status VARCHAR(32) NOT NULL, 
	reason VARCHAR, 
	error_code VARCHAR, 
	error VARCHAR, 
	attempts INTEGER NOT NULL, 
	lane VARCHAR(32) NOT NULL, 
	next_attempt_at DATETIME, 
	expires_at DATETIME, 
	throttled_at DATETIME, 
	last_attempt_at DATETIME, 
	provider VARCHAR, 
	provider_message_id VARCHAR, 
	created_at DATETIME NOT NULL, 
	sent_at DATETIME, 
	delivered_at DATETIME, 
	finished_at DATETIME, 
	metadata JSON, 
	lease_owner VARCHAR, 
	lease_generation INTEGER NOT NULL, 
	lease_until DATETIME, 
	PRIMARY KEY (id), 
	CONSTRAINT channel_known CHECK (channel IN ('EMAIL', 'SMS')), 
	CONSTRAINT audience_known CHECK (audience IN ('CLIENT', 'ADMIN')), 
	CONSTRAINT messagestatus_known CHECK (status IN ('QUEUED', 'DEFERRED_THROTTLED', 'SENDING', 'RETRY_SCHEDULED', 'IN_DOUBT', 'SENT', 'DELIVERED', 'BOUNCED', 'FAILED', 'BLOCKED', 'EXPIRED', 'CANCELED')), 
	CONSTRAINT lane_known CHECK (lane IN ('URGENT', 'TRANSACTIONAL', 'BULK'))
);
INSERT INTO "message_log" VALUES('01a2267e-41f8-71a0-be95-b4f4dc95c2e0',NULL,NULL,'acme','EMAIL','CLIENT','WELCOME_EMAIL',1,'ops@acme.example','862beecb3de726ebb0de151d0dbfbf2b','Your account is ready','cli',NULL,'','SENT',NULL,NULL,NULL,1,'TRANSACTIONAL',NULL,'2026-12-02 08:48:58.321376',NULL,'2026-11-29 08:49:00.758085','postmark','fa040b67-cffa-4a60-954b-bdd5467bbd46','2026-11-29 08:48:58.321376','2026-11-29 08:49:00.792686',NULL,NULL,NULL,'vm:23066:e779c5',1,NULL);
INSERT INTO "message_log" VALUES('01a2267e-464b-72b9-808a-40492b9716fa',NULL,NULL,'beta','EMAIL','CLIENT','WELCOME_EMAIL',1,'it@beta.example','fc81c568f978fc0260daa5624d0ec174',NULL,'cli',NULL,'','BLOCKED','PROVISIONING_INCOMPLETE',NULL,'provisioning is PENDING, not COMPLETED',0,'TRANSACTIONAL',NULL,'2026-12-02 08:48:59.427165',NULL,NULL,NULL,NULL,'2026-11-29 08:48:59.427165',NULL,NULL,'2026-11-29 08:48:59.427165',NULL,NULL,0,NULL);
INSERT INTO "message_log" VALUES('01a2267e-4ef3-7532-9363-43a95838320c',NULL,NULL,'acme','EMAIL','CLIENT','WELCOME_EMAIL',1,'ops@acme.example','862beecb3de726ebb0de151d0dbfbf2b',NULL,'cli',NULL,'','BLOCKED','RATE_LIMITED',NULL,'1 of at most 1 sends in the last 24 h',0,'TRANSACTIONAL',NULL,'2026-12-02 08:49:01.638351',NULL,NULL,NULL,NULL,'2026-11-29 08:49:01.638351',NULL,NULL,'2026-11-29 08:49:01.638351',NULL,NULL,0,NULL);
INSERT INTO "message_log" VALUES('01a2267e-66d6-734b-87c3-49962fc37e64',NULL,NULL,'acme','EMAIL','CLIENT','PASSWORD_RESET',1,'ops@acme.example','862beecb3de726ebb0de151d0dbfbf2b',NULL,'cli',NULL,'','QUEUED',NULL,NULL,NULL,0,'URGENT','2026-11-29 08:49:07.756618','2099-01-01 00:00:00.000000',NULL,NULL,NULL,NULL,'2026-11-29 08:49:07.756618',NULL,NULL,NULL,NULL,NULL,0,NULL);
CREATE TABLE message_payload (
	message_id VARCHAR(36) NOT NULL, 
	context VARCHAR, 
	sealed VARCHAR, 
	key_id VARCHAR, 
	PRIMARY KEY (message_id)
);
INSERT INTO "message_payload" VALUES('01a2267e-41f8-71a0-be95-b4f4dc95c2e0','{"client_name":"Acme","login_url":"https://cloud.example/login"}',NULL,NULL);
INSERT INTO "message_payload" VALUES('01a2267e-66d6-734b-87c3-49962fc37e64',NULL,'PDyKEHzMhJskiKIF4sdwdFDQHxh8A0SJiTnHR1mZwGS90HZ4is7bXmJrb8QL66X1SEpGK59uX7tAs+z4Rib7Ul0jTGmTmrYjKx0LG/ZFf6pOCGLB+0hsnB+kz6pQELFVSKmkixYLl6qkUOtF9kXn8ds=','3d022630');
CREATE TABLE notification_outbound_budget (
	channel VARCHAR(32) NOT NULL, 
	state JSON NOT NULL, 
	PRIMARY KEY (channel), 
	CONSTRAINT channel_known CHECK (channel IN ('EMAIL', 'SMS'))
);
INSERT INTO "notification_outbound_budget" VALUES('EMAIL','{"limit": 60, "buckets": [[7183768563, 1]], "paced_until": "2026-11-29T08:49:01.787746+00:00", "full_at": {}, "bulk_credit": 0.0}');
CREATE TABLE notification_outbound_limits (
	channel VARCHAR(32) NOT NULL, 
	per_minute_limit INTEGER NOT NULL, 
	updated_at DATETIME NOT NULL, 
	updated_by VARCHAR NOT NULL, 
	PRIMARY KEY (channel), 
	CONSTRAINT channel_known CHECK (channel IN ('EMAIL', 'SMS'))
);
INSERT INTO "notification_outbound_limits" VALUES('EMAIL',300,'2026-11-29 08:49:05.804625','cli:root');
CREATE TABLE notification_template (
	template_key VARCHAR NOT NULL, 
	channel VARCHAR(32) NOT NULL, 
	audience VARCHAR(32) NOT NULL, 
	lane VARCHAR(32) NOT NULL, 
	billing BOOLEAN NOT NULL, 
	requires_provisioned BOOLEAN NOT NULL, 
	requires_active_subscription BOOLEAN NOT NULL, 
	plan_required_feature_key VARCHAR, 
	rate_limit_window_seconds INTEGER, 
	rate_limit_max_sends INTEGER NOT NULL, 
	rate_limit_by JSON NOT NULL, 
	sensitive BOOLEAN NOT NULL, 
	expires_after_seconds INTEGER, 
	on_doubt VARCHAR(32) NOT NULL, 
	audit_sent VARCHAR, 
	enabled BOOLEAN NOT NULL, 
	description VARCHAR NOT NULL, 
	version INTEGER NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (template_key), 
	CONSTRAINT channel_known CHECK (channel IN ('EMAIL', 'SMS')), 
	CONSTRAINT audience_known CHECK (audience IN ('CLIENT', 'ADMIN')), 
	CONSTRAINT lane_known CHECK (lane IN ('URGENT', 'TRANSACTIONAL', 'BULK')), 
	CONSTRAINT ondoubt_known CHECK (on_doubt IN ('RESEND', 'HOLD'))
);
INSERT INTO "notification_template" VALUES('OTP_CODE_SMS','SMS','CLIENT','URGENT',0,0,0,NULL,1800,3,'[]',1,600,'HOLD','OTP_SENT',1,'A one-time code. Its rate and send-by are set at seeding from OTP_SEND_RATE_LIMIT and OTP_TTL_SECONDS.',1,'2026-11-29 08:48:54.730624');
INSERT INTO "notification_template" VALUES('PASSWORD_RESET','EMAIL','CLIENT','URGENT',0,1,0,NULL,3600,3,'[]',1,3600,'HOLD',NULL,1,'A one-time link with which a client chooses a new password.',1,'2026-11-29 08:48:54.730624');
INSERT INTO "notification_template" VALUES('WELCOME_EMAIL','EMAIL','CLIENT','TRANSACTIONAL',0,1,0,NULL,86400,1,'[]',0,259200,'RESEND',NULL,1,'The first mail to a client: the account is set up and ready to use.',1,'2026-11-29 08:48:54.730624');
CREATE TABLE notification_template_version (
	template_key VARCHAR NOT NULL, 
	version INTEGER NOT NULL, 
	content_hash VARCHAR NOT NULL, 
	subject VARCHAR, 
	text_body VARCHAR NOT NULL, 
	html_body VARCHAR, 
	variables JSON NOT NULL, 
	example JSON NOT NULL, 
	flags JSON NOT NULL, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (template_key, version), 
	FOREIGN KEY(template_key) REFERENCES notification_template (template_key)
);
INSERT INTO "notification_template_version" VALUES('OTP_CODE_SMS',1,'0b66d102ee4f0c36379aaa9a434cd9d2cb96399d34fc7c9d16ebaa4557626d2d',NULL,'{{ code }} is your code. It works for {{ valid_minutes }} minute{{ "" if valid_minutes == 1 else "s" }}. Do not share it with anyone.
{% if domain|default %}

@{{ domain }} #{{ code }}
{% endif %}',NULL,'{"code": {"type": "string", "optional": false, "description": "Six digits.", "in_header": false}, "valid_minutes": {"type": "integer", "optional": false, "description": "How long the code works, in minutes.", "in_header": false}, "domain": {"type": "string", "optional": true, "description": "The web site that reads the code by WebOTP (OTP_DOMAIN).", "in_header": false}}','{"code": "493817", "valid_minutes": 10, "domain": "app.example.com"}','{"description": "A one-time code. Its rate and send-by are set at seeding from OTP_SEND_RATE_LIMIT and OTP_TTL_SECONDS.", "channel": "SMS", "audience": "CLIENT", "lane": "URGENT", "billing": false, "requires_provisioned": false, "requires_active_subscription": false, "plan_required_feature_key": null, "rate_limit_window_seconds": 1800, "rate_limit_max_sends": 3, "rate_limit_by": [], "sensitive": true, "expires_after_seconds": 600, "on_doubt": "HOLD", "audit_sent": "OTP_SENT", "enabled": true}','2026-11-29 08:48:54.730624');
INSERT INTO "notification_template_version" VALUES('PASSWORD_RESET',1,'fb350c835088521a368e575ff359edd8197d2647ade52dc19ae95a157fa25459','Reset your password','Hello{% if client_name %} {{ client_name }}{% endif %},

We received a request to reset the password of your account. Choose a new one here:
{{ reset_url }}

The link works once, and only for the next {{ valid_minutes }} minute{{ "" if valid_minutes == 1 else "s" }}.

If you did not ask for this, you can ignore this email: your password stays as it is. Please do not forward this message. Anyone who has the link can set a new password.','<!DOCTYPE html><html lang="en" dir="ltr" xmlns="http://www.w3.org/1999/xhtml" xmlns:v="urn:schemas-microsoft-com:vml" xmlns:o="urn:schemas-microsoft-com:office:office" style="color-scheme: light dark;supported-color-schemes: light dark;"><head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="x-apple-disable-message-reformatting">
<meta name="format-detection" content="telephone=no, date=no, address=no, email=no, url=no">
<meta name="color-scheme" content="light dark">
<meta name="supported-color-schemes" content="light dark">
<title>Reset your password</title>
<!--[if mso]>
<noscript><xml><o:OfficeDocumentSettings><o:AllowPNG/><o:PixelsPerInch>96</o:PixelsPerInch></o:OfficeDocumentSettings></xml></noscript>
<style>table { border-collapse: collapse; } td, th, p, h1, a { font-family: "Segoe UI", Arial, sans-serif !important; }</style>
<![endif]-->
<style>.facts { width: 100%; margin: 8px 0 24px; border-top: 1px solid #dfe3e8; border-collapse: collapse; }
.facts th { padding: 10px 16px 10px 0; width: 34%; border-bottom: 1px solid #dfe3e8; text-align: left; vertical-align: top; font-size: 14px; line-height: 21px; font-weight: 400; color: #52606d; }
.facts td { padding: 10px 0; border-bottom: 1px solid #dfe3e8; text-align: left; vertical-align: top; font-size: 15px; line-height: 21px; font-weight: 600; color: #1f2933; word-break: break-word; }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 13px; }
.facts td.lines { font-weight: 400; white-space: pre-line; }
.status { display: inline-block; margin: 0 0 14px; padding: 3px 10px; border-radius: 6px; font-size: 12px; line-height: 18px; font-weight: 700; letter-spacing: 0.4px; }
.bad { background-color: #fde8e8; color: #9b1c1c; }
.warn { background-color: #fdf0cf; color: #7a4a04; }
.good { background-color: #def7ec; color: #03543f; }
@media (max-width: 620px) {
  .gutter { padding: 12px 8px !important; }
  .inner { padding: 28px 22px 12px !important; }
  .foot { padding: 18px 22px 20px !important; }
  h1 { font-size: 22px !important; line-height: 29px !important; }
}
@media (prefers-color-scheme: dark) {
  body, .page { background-color: #0e1116 !important; }
  .preheader { color: #0e1116 !important; }
  .card { background-color: #181c24 !important; border-color: #2c333f !important; }
  .inner, .facts td { color: #e4e8ee !important; }
  h1 { color: #ffffff !important; }
  a { color: #8ab4ff !important; }
  .note, .foot, .facts th { color: #a7b1bf !important; }
  .facts, .facts th, .facts td, .foot { border-color: #2c333f !important; }
  a.button { background-color: #2f65e0 !important; color: #ffffff !important; }
  .bad { background-color: #4a1a1d !important; color: #ffc9c9 !important; }
  .warn { background-color: #463308 !important; color: #ffe1a1 !important; }
  .good { background-color: #0f3b2d !important; color: #b5f0d6 !important; }
}
[data-ogsc] .inner, [data-ogsc] .facts td { color: #e4e8ee !important; }
[data-ogsc] h1 { color: #ffffff !important; }
[data-ogsc] .note, [data-ogsc] .foot, [data-ogsc] .facts th { color: #a7b1bf !important; }
[data-ogsb] .page { background-color: #0e1116 !important; }
[data-ogsb] .card { background-color: #181c24 !important; }
[data-ogsc] a.button { color: #ffffff !important; }
[data-ogsb] a.button { background-color: #2f65e0 !important; }</style>
</head>
<body style="margin: 0;padding: 0;width: 100%;background-color: #f1f3f6;-webkit-text-size-adjust: 100%;-ms-text-size-adjust: 100%;">
<div class="preheader" style="display: none;max-height: 0;overflow: hidden;mso-hide: all;font-size: 1px;line-height: 1px;color: #f1f3f6;opacity: 0;">The link works once, for {{ valid_minutes }} minute{{ "" if valid_minutes == 1 else "s" }}. ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏</div>
<table class="page" role="presentation" border="0" width="100%" cellpadding="0" cellspacing="0" style="border-spacing: 0;mso-table-lspace: 0;mso-table-rspace: 0;width: 100%;background-color: #f1f3f6;">
<tr>
<td class="gutter" align="center" style="padding: 32px 12px;">
<!--[if mso]><table role="presentation" width="600" align="center" cellpadding="0" cellspacing="0" border="0"><tr><td><![endif]-->
<table class="card" role="presentation" border="0" width="100%" cellpadding="0" cellspacing="0" style="border-spacing: 0;mso-table-lspace: 0;mso-table-rspace: 0;width: 100%;max-width: 600px;background-color: #ffffff;border: 1px solid #dfe3e8;border-radius: 12px;border-collapse: separate;">
<tr>
<td class="inner" style="padding: 36px 40px 16px;text-align: left;font-family: -apple-system, BlinkMacSystemFont, ''Segoe UI'', Roboto, Helvetica, Arial, sans-serif;font-size: 16px;line-height: 25px;color: #1f2933;">

<h1 style="margin: 0 0 20px;font-size: 24px;line-height: 31px;font-weight: 700;letter-spacing: -0.2px;color: #111827;">Reset your password</h1>
<p style="margin: 0 0 16px;">Hello{% if client_name %} {{ client_name }}{% endif %},</p>
<p style="margin: 0 0 16px;">We received a request to reset the password of your account. Use the button to choose a new one. It works once, and only for the next <strong>{{ valid_minutes }} minute{{ "" if valid_minutes == 1 else "s" }}</strong>.</p>
{% set button_url = reset_url %}
{% set button_label = "Choose a new password" %}
<table class="action" role="presentation" border="0" cellpadding="0" cellspacing="0" style="border-spacing: 0;mso-table-lspace: 0;mso-table-rspace: 0;margin: 8px 0 24px;border-collapse: separate;">
<tr>
<td>
<!--[if mso]>
<v:roundrect href="{{ button_url }}" style="height:48px;v-text-anchor:middle;width:260px;" arcsize="17%" stroke="f" fillcolor="#1a56db"><w:anchorlock xmlns:w="urn:schemas-microsoft-com:office:word"/><center style="color:#ffffff;font-family:Arial,sans-serif;font-size:16px;font-weight:bold;">{{ button_label }}</center></v:roundrect>
<![endif]-->
<!--[if !mso]><!--><a class="button" href="{{ button_url }}" style="color: #ffffff;display: inline-block;padding: 13px 28px;border-radius: 8px;background-color: #1a56db;font-size: 16px;line-height: 22px;font-weight: 600;text-decoration: none;">{{ button_label }}</a><!--<![endif]-->
</td>
</tr>
</table>

<p class="note" style="margin: 0 0 12px;font-size: 14px;line-height: 21px;color: #52606d;">If the button does not work, copy this address into your browser:<br><a class="address" href="{{ button_url }}" style="color: #1a56db;word-break: break-all;">{{ button_url }}</a></p>


</td>
</tr>
<tr>
<td class="foot" style="padding: 20px 40px 24px;border-top: 1px solid #dfe3e8;text-align: left;font-family: -apple-system, BlinkMacSystemFont, ''Segoe UI'', Roboto, Helvetica, Arial, sans-serif;font-size: 13px;line-height: 20px;color: #52606d;">
If you did not ask for this, you can ignore this email: your password stays as it is. Please do not forward this message. Anyone who has the link can set a new password.
</td>
</tr>
</table>
<!--[if mso]></td></tr></table><![endif]-->
</td>
</tr>
</table>


</body></html>','{"client_name": {"type": "string", "optional": false, "description": "How the client is addressed.", "in_header": false}, "reset_url": {"type": "url", "optional": false, "description": "The one-time link.", "in_header": false}, "valid_minutes": {"type": "integer", "optional": false, "description": "How long the link works, in minutes.", "in_header": false}}','{"client_name": "Dana Whitfield", "reset_url": "https://app.example.com/reset/6Qk2xVhTz1", "valid_minutes": 60}','{"description": "A one-time link with which a client chooses a new password.", "channel": "EMAIL", "audience": "CLIENT", "lane": "URGENT", "billing": false, "requires_provisioned": true, "requires_active_subscription": false, "plan_required_feature_key": null, "rate_limit_window_seconds": 3600, "rate_limit_max_sends": 3, "rate_limit_by": [], "sensitive": true, "expires_after_seconds": 3600, "on_doubt": "HOLD", "audit_sent": null, "enabled": true}','2026-11-29 08:48:54.730624');
INSERT INTO "notification_template_version" VALUES('WELCOME_EMAIL',1,'aeb30593b4d5e7726c4dfe570e9f5bb513a1f3eaee4ce5e301eda75b0ebc4c85','Your account is ready','Hello{% if client_name %} {{ client_name }}{% endif %},

Hello from Acme, and thank you for choosing us. Your account is set up and ready for you.

Sign in here to get started:
{{ login_url }}

Everything you set up from now on is saved to your account. If something looks wrong or is missing, tell us and we will put it right.

Questions? Just reply to this email and we will help you.','<!DOCTYPE html><html lang="en" dir="ltr" xmlns="http://www.w3.org/1999/xhtml" xmlns:v="urn:schemas-microsoft-com:vml" xmlns:o="urn:schemas-microsoft-com:office:office" style="color-scheme: light dark;supported-color-schemes: light dark;"><head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="x-apple-disable-message-reformatting">
<meta name="format-detection" content="telephone=no, date=no, address=no, email=no, url=no">
<meta name="color-scheme" content="light dark">
<meta name="supported-color-schemes" content="light dark">
<title>Your account is ready</title>
<!--[if mso]>
<noscript><xml><o:OfficeDocumentSettings><o:AllowPNG/><o:PixelsPerInch>96</o:PixelsPerInch></o:OfficeDocumentSettings></xml></noscript>
<style>table { border-collapse: collapse; } td, th, p, h1, a { font-family: "Segoe UI", Arial, sans-serif !important; }</style>
<![endif]-->
<style>.facts { width: 100%; margin: 8px 0 24px; border-top: 1px solid #dfe3e8; border-collapse: collapse; }
.facts th { padding: 10px 16px 10px 0; width: 34%; border-bottom: 1px solid #dfe3e8; text-align: left; vertical-align: top; font-size: 14px; line-height: 21px; font-weight: 400; color: #52606d; }
.facts td { padding: 10px 0; border-bottom: 1px solid #dfe3e8; text-align: left; vertical-align: top; font-size: 15px; line-height: 21px; font-weight: 600; color: #1f2933; word-break: break-word; }
code { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 13px; }
.facts td.lines { font-weight: 400; white-space: pre-line; }
.status { display: inline-block; margin: 0 0 14px; padding: 3px 10px; border-radius: 6px; font-size: 12px; line-height: 18px; font-weight: 700; letter-spacing: 0.4px; }
.bad { background-color: #fde8e8; color: #9b1c1c; }
.warn { background-color: #fdf0cf; color: #7a4a04; }
.good { background-color: #def7ec; color: #03543f; }
@media (max-width: 620px) {
  .gutter { padding: 12px 8px !important; }
  .inner { padding: 28px 22px 12px !important; }
  .foot { padding: 18px 22px 20px !important; }
  h1 { font-size: 22px !important; line-height: 29px !important; }
}
@media (prefers-color-scheme: dark) {
  body, .page { background-color: #0e1116 !important; }
  .preheader { color: #0e1116 !important; }
  .card { background-color: #181c24 !important; border-color: #2c333f !important; }
  .inner, .facts td { color: #e4e8ee !important; }
  h1 { color: #ffffff !important; }
  a { color: #8ab4ff !important; }
  .note, .foot, .facts th { color: #a7b1bf !important; }
  .facts, .facts th, .facts td, .foot { border-color: #2c333f !important; }
  a.button { background-color: #2f65e0 !important; color: #ffffff !important; }
  .bad { background-color: #4a1a1d !important; color: #ffc9c9 !important; }
  .warn { background-color: #463308 !important; color: #ffe1a1 !important; }
  .good { background-color: #0f3b2d !important; color: #b5f0d6 !important; }
}
[data-ogsc] .inner, [data-ogsc] .facts td { color: #e4e8ee !important; }
[data-ogsc] h1 { color: #ffffff !important; }
[data-ogsc] .note, [data-ogsc] .foot, [data-ogsc] .facts th { color: #a7b1bf !important; }
[data-ogsb] .page { background-color: #0e1116 !important; }
[data-ogsb] .card { background-color: #181c24 !important; }
[data-ogsc] a.button { color: #ffffff !important; }
[data-ogsb] a.button { background-color: #2f65e0 !important; }</style>
</head>
<body style="margin: 0;padding: 0;width: 100%;background-color: #f1f3f6;-webkit-text-size-adjust: 100%;-ms-text-size-adjust: 100%;">
<div class="preheader" style="display: none;max-height: 0;overflow: hidden;mso-hide: all;font-size: 1px;line-height: 1px;color: #f1f3f6;opacity: 0;">Everything is set up. Sign in to get started. ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏  ͏</div>
<table class="page" role="presentation" border="0" width="100%" cellpadding="0" cellspacing="0" style="border-spacing: 0;mso-table-lspace: 0;mso-table-rspace: 0;width: 100%;background-color: #f1f3f6;">
<tr>
<td class="gutter" align="center" style="padding: 32px 12px;">
<!--[if mso]><table role="presentation" width="600" align="center" cellpadding="0" cellspacing="0" border="0"><tr><td><![endif]-->
<table class="card" role="presentation" border="0" width="100%" cellpadding="0" cellspacing="0" style="border-spacing: 0;mso-table-lspace: 0;mso-table-rspace: 0;width: 100%;max-width: 600px;background-color: #ffffff;border: 1px solid #dfe3e8;border-radius: 12px;border-collapse: separate;">
<tr>
<td class="inner" style="padding: 36px 40px 16px;text-align: left;font-family: -apple-system, BlinkMacSystemFont, ''Segoe UI'', Roboto, Helvetica, Arial, sans-serif;font-size: 16px;line-height: 25px;color: #1f2933;">

<h1 style="margin: 0 0 20px;font-size: 24px;line-height: 31px;font-weight: 700;letter-spacing: -0.2px;color: #111827;">Your account is ready</h1>
<p style="margin: 0 0 16px;">Hello{% if client_name %} {{ client_name }}{% endif %},</p>
<p style="margin: 0 0 16px;">Welcome, and thank you for choosing us. Your account is set up and ready for you.</p>
{% set button_url = login_url %}
{% set button_label = "Sign in" %}
<table class="action" role="presentation" border="0" cellpadding="0" cellspacing="0" style="border-spacing: 0;mso-table-lspace: 0;mso-table-rspace: 0;margin: 8px 0 24px;border-collapse: separate;">
<tr>
<td>
<!--[if mso]>
<v:roundrect href="{{ button_url }}" style="height:48px;v-text-anchor:middle;width:260px;" arcsize="17%" stroke="f" fillcolor="#1a56db"><w:anchorlock xmlns:w="urn:schemas-microsoft-com:office:word"/><center style="color:#ffffff;font-family:Arial,sans-serif;font-size:16px;font-weight:bold;">{{ button_label }}</center></v:roundrect>
<![endif]-->
<!--[if !mso]><!--><a class="button" href="{{ button_url }}" style="color: #ffffff;display: inline-block;padding: 13px 28px;border-radius: 8px;background-color: #1a56db;font-size: 16px;line-height: 22px;font-weight: 600;text-decoration: none;">{{ button_label }}</a><!--<![endif]-->
</td>
</tr>
</table>

<p style="margin: 0 0 16px;">Everything you set up from now on is saved to your account. If something looks wrong or is missing, tell us and we will put it right.</p>
<p class="note" style="margin: 0 0 12px;font-size: 14px;line-height: 21px;color: #52606d;">If the button does not work, copy this address into your browser:<br><a class="address" href="{{ button_url }}" style="color: #1a56db;word-break: break-all;">{{ button_url }}</a></p>


</td>
</tr>
<tr>
<td class="foot" style="padding: 20px 40px 24px;border-top: 1px solid #dfe3e8;text-align: left;font-family: -apple-system, BlinkMacSystemFont, ''Segoe UI'', Roboto, Helvetica, Arial, sans-serif;font-size: 13px;line-height: 20px;color: #52606d;">
Questions? Just reply to this email and we will help you.
</td>
</tr>
</table>
<!--[if mso]></td></tr></table><![endif]-->
</td>
</tr>
</table>


</body></html>','{"client_name": {"type": "string", "optional": false, "description": "How the client is addressed.", "in_header": false}, "login_url": {"type": "url", "optional": false, "description": "Where the client signs in.", "in_header": false}}','{"client_name": "Dana Whitfield", "login_url": "https://app.example.com/login"}','{"description": "The first mail to a client: the account is set up and ready to use.", "channel": "EMAIL", "audience": "CLIENT", "lane": "TRANSACTIONAL", "billing": false, "requires_provisioned": true, "requires_active_subscription": false, "plan_required_feature_key": null, "rate_limit_window_seconds": 86400, "rate_limit_max_sends": 1, "rate_limit_by": [], "sensitive": false, "expires_after_seconds": 259200, "on_doubt": "RESEND", "audit_sent": null, "enabled": true}','2026-11-29 08:48:54.730624');
CREATE TABLE otp_challenge (
	id VARCHAR NOT NULL, 
	phone_hash VARCHAR NOT NULL, 
	action VARCHAR(32) NOT NULL, 
	code_hash VARCHAR NOT NULL, 
	key_id VARCHAR NOT NULL, 
	state VARCHAR(32) NOT NULL, 
	message_id VARCHAR, 
	created_at DATETIME NOT NULL, 
	expires_at DATETIME NOT NULL, prefix_hash VARCHAR DEFAULT '' NOT NULL, finished_at DATETIME, 
	PRIMARY KEY (id), 
	CONSTRAINT otpaction_known CHECK (action IN ('PHONE_VERIFY', 'SENSITIVE_ACTION')), 
	CONSTRAINT otpstate_known CHECK (state IN ('LIVE', 'USED', 'SUPERSEDED', 'LOCKED', 'EXPIRED'))
);
CREATE TABLE otp_subject (
	phone_hash VARCHAR NOT NULL, 
	key_id VARCHAR NOT NULL, 
	failed_count INTEGER NOT NULL, 
	consecutive_failures INTEGER NOT NULL, 
	locked_until DATETIME, 
	hard_locked_at DATETIME, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (phone_hash)
);
CREATE TABLE pause (
	id INTEGER NOT NULL, 
	channel VARCHAR, 
	template_key VARCHAR, 
	client_id VARCHAR, 
	reason VARCHAR NOT NULL, 
	actor VARCHAR NOT NULL, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "pause" VALUES(1,'SMS',NULL,NULL,'invoice unpaid','cli:root','2026-11-29 08:49:04.777021');
CREATE TABLE provider_breaker (
	channel VARCHAR(32) NOT NULL, 
	state VARCHAR(32) NOT NULL, 
	reason VARCHAR, 
	opened_at DATETIME, 
	probe_at DATETIME, 
	failed_probes INTEGER NOT NULL, 
	PRIMARY KEY (channel), 
	CONSTRAINT channel_known CHECK (channel IN ('EMAIL', 'SMS')), 
	CONSTRAINT breakerstate_known CHECK (state IN ('CLOSED', 'OPEN', 'PROBING'))
);
CREATE TABLE receipt_inquiry (
	message_id VARCHAR(36) NOT NULL, 
	ask_again_at DATETIME NOT NULL, 
	PRIMARY KEY (message_id)
);
CREATE TABLE seen_event (
	event_id VARCHAR NOT NULL, 
	seen_at DATETIME NOT NULL, 
	PRIMARY KEY (event_id)
);
CREATE TABLE spike_state (
	channel VARCHAR(32) NOT NULL, 
	level VARCHAR(32) NOT NULL, 
	told VARCHAR(32) NOT NULL, 
	problem VARCHAR NOT NULL, 
	raised_at DATETIME, 
	told_at DATETIME, 
	measured_at DATETIME, 
	PRIMARY KEY (channel), 
	CONSTRAINT channel_known CHECK (channel IN ('EMAIL', 'SMS')), 
	CONSTRAINT spikelevel_known CHECK (level IN ('OK', 'WARN', 'CRITICAL')), 
	CONSTRAINT told_known CHECK (told IN ('OK', 'WARN', 'CRITICAL'))
);
CREATE TABLE stripe_event (
	id VARCHAR NOT NULL, 
	type VARCHAR NOT NULL, 
	created DATETIME NOT NULL, 
	livemode BOOLEAN NOT NULL, 
	verified BOOLEAN NOT NULL, 
	body BLOB NOT NULL, 
	status VARCHAR(32) NOT NULL, 
	error VARCHAR, 
	attempts INTEGER NOT NULL, 
	client_id VARCHAR, 
	received_at DATETIME NOT NULL, 
	processed_at DATETIME, origin VARCHAR DEFAULT 'webhook' NOT NULL, message_id VARCHAR(36), reason VARCHAR, api_version VARCHAR, account VARCHAR, object_id VARCHAR, customer_id VARCHAR, subscription_id VARCHAR, named_client VARCHAR, alert VARCHAR, next_attempt_at DATETIME, alerted_at DATETIME, 
	PRIMARY KEY (id), 
	CONSTRAINT stripeeventstatus_known CHECK (status IN ('RECEIVED', 'PROCESSED', 'IGNORED', 'UNMATCHED', 'FAILED'))
);
CREATE TABLE stripe_invoice (
	id VARCHAR NOT NULL, 
	client_id VARCHAR, 
	subscription_id VARCHAR, 
	total BIGINT NOT NULL, 
	paid_at DATETIME, 
	failed_at DATETIME, 
	failed_attempts INTEGER NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(client_id) REFERENCES client (id)
);
CREATE TABLE stripe_subscription (
	id VARCHAR NOT NULL, 
	client_id VARCHAR, 
	customer_id VARCHAR, 
	status VARCHAR, 
	reported_status VARCHAR, 
	reported_at DATETIME, 
	report_order VARCHAR NOT NULL, 
	price_id VARCHAR, 
	"plan" VARCHAR, 
	current_period_end DATETIME, 
	started_at DATETIME, 
	cancel_at DATETIME, 
	ended_at DATETIME, 
	end_cause VARCHAR, 
	was_live BOOLEAN NOT NULL, 
	was_incomplete BOOLEAN NOT NULL, 
	last_event_at DATETIME NOT NULL, 
	updated_at DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(client_id) REFERENCES client (id)
);
CREATE TABLE suppression (
	channel VARCHAR(32) NOT NULL, 
	recipient_hash VARCHAR NOT NULL, 
	key_id VARCHAR NOT NULL, 
	address VARCHAR, 
	reason VARCHAR(32) NOT NULL, 
	source VARCHAR NOT NULL, 
	note VARCHAR, 
	created_at DATETIME NOT NULL, 
	PRIMARY KEY (channel, recipient_hash), 
	CONSTRAINT channel_known CHECK (channel IN ('EMAIL', 'SMS')), 
	CONSTRAINT suppressionreason_known CHECK (reason IN ('HARD_BOUNCE', 'COMPLAINT', 'OPTED_OUT', 'INACTIVE', 'MANUAL'))
);
INSERT INTO "suppression" VALUES('EMAIL','2dee19ae4db574a5455ea1bcaf06d068','3d022630','gone@acme.example','MANUAL','cli:root',NULL,'2026-11-29 08:49:02.866468');
CREATE TABLE worker_heartbeat (
	worker VARCHAR NOT NULL, 
	host VARCHAR NOT NULL, 
	pid INTEGER NOT NULL, 
	version VARCHAR NOT NULL, 
	started_at DATETIME NOT NULL, 
	seen_at DATETIME NOT NULL, 
	stopping BOOLEAN NOT NULL, 
	PRIMARY KEY (worker)
);
CREATE INDEX ix_audit_log_message_id ON audit_log (message_id);
CREATE INDEX ix_message_log_client_rate ON message_log (client_id, template_key, created_at);
CREATE INDEX ix_message_log_lease ON message_log (lease_until) WHERE status IN ('SENDING', 'IN_DOUBT');
CREATE INDEX ix_message_log_recipient_rate ON message_log (recipient_hash, template_key, created_at) WHERE client_id IS NULL AND recipient_hash IS NOT NULL;
CREATE UNIQUE INDEX ux_message_log_idempotency_key ON message_log (idempotency_key) WHERE idempotency_key IS NOT NULL AND status != 'BLOCKED';
CREATE INDEX ix_compliance_item_expires_on ON compliance_item (expires_on);
CREATE INDEX ix_message_log_queue ON message_log (channel, lane, status, next_attempt_at) WHERE status IN ('QUEUED', 'DEFERRED_THROTTLED', 'RETRY_SCHEDULED');
CREATE INDEX ix_otp_challenge_phone ON otp_challenge (phone_hash, created_at);
CREATE INDEX ix_otp_challenge_prefix ON otp_challenge (prefix_hash, created_at);
CREATE INDEX ix_otp_challenge_created_at ON otp_challenge (created_at);
CREATE UNIQUE INDEX ux_otp_challenge_live ON otp_challenge (phone_hash, action) WHERE state = 'LIVE';
CREATE INDEX ix_message_log_otp_rate ON message_log (recipient_hash, created_at) WHERE template_key = 'OTP_CODE_SMS' AND status != 'BLOCKED';
CREATE INDEX ix_early_receipt_received_at ON early_receipt (received_at);
CREATE INDEX ix_message_log_provider_message_id ON message_log (provider_message_id) WHERE provider_message_id IS NOT NULL;
CREATE UNIQUE INDEX ux_job_run_slot ON job_run (name, due_at, attempt);
CREATE UNIQUE INDEX ux_job_run_running ON job_run (name) WHERE outcome = 'RUNNING';
CREATE INDEX ix_stripe_event_due ON stripe_event (next_attempt_at) WHERE status IN ('RECEIVED', 'FAILED');
CREATE INDEX ix_stripe_event_unmatched ON stripe_event (received_at) WHERE status = 'UNMATCHED';
CREATE INDEX ix_stripe_event_alerted ON stripe_event (alerted_at) WHERE alerted_at IS NOT NULL;
CREATE INDEX ix_stripe_event_created ON stripe_event (created, id);
CREATE INDEX ix_stripe_event_customer_id ON stripe_event (customer_id);
CREATE INDEX ix_stripe_event_subscription_id ON stripe_event (subscription_id);
CREATE INDEX ix_stripe_subscription_client_id ON stripe_subscription (client_id);
CREATE INDEX ix_stripe_subscription_customer_id ON stripe_subscription (customer_id);
CREATE INDEX ix_stripe_invoice_client_id ON stripe_invoice (client_id);
CREATE INDEX ix_stripe_invoice_subscription_id ON stripe_invoice (subscription_id);
CREATE INDEX ix_audit_seal_sealed_at ON audit_seal (sealed_at);
CREATE INDEX ix_audit_log_failed_attempts ON audit_log (created_at) WHERE action IN ('NOTIFICATION_FAILED', 'NOTIFICATION_RETRY_SCHEDULED', 'NOTIFICATION_IN_DOUBT', 'NOTIFICATION_BOUNCED');
CREATE INDEX ix_message_log_sent ON message_log (sent_at, ((strftime('%s', substr(sent_at, 1, 19)) - strftime('%s', substr(created_at, 1, 19))) * 1000000 + CAST(substr(sent_at, 21) AS INTEGER) - CAST(substr(created_at, 21) AS INTEGER)), channel, template_key, status) WHERE sent_at IS NOT NULL;
CREATE INDEX ix_message_log_delivered ON message_log (delivered_at, channel) WHERE delivered_at IS NOT NULL;
CREATE INDEX ix_message_log_throttled ON message_log (throttled_at, channel) WHERE throttled_at IS NOT NULL;
CREATE INDEX ix_message_log_ended ON message_log (finished_at, status, channel, template_key, reason) WHERE status IN ('FAILED', 'BOUNCED', 'BLOCKED');
CREATE INDEX ix_message_log_unconfirmed ON message_log (sent_at) WHERE status = 'SENT';
CREATE INDEX ix_otp_challenge_used ON otp_challenge (finished_at) WHERE state = 'USED';
COMMIT;
