# The function that compacts: beside neve it holds pyarrow and lance.
ARG BASE=public.ecr.aws/lambda/python:3.13
FROM ${BASE}
COPY packages ${LAMBDA_TASK_ROOT}
RUN python3 -m compileall -qq -j 0 --invalidation-mode unchecked-hash ${LAMBDA_TASK_ROOT}
COPY program ${LAMBDA_TASK_ROOT}
RUN python3 -m compileall -qq -j 0 --invalidation-mode unchecked-hash ${LAMBDA_TASK_ROOT}/neve
CMD ["compact.handler"]
