--- About fine-tuning on the project.
local format = require('intract.format')
local page = require('intract.page')
local say = require('intract.say')
local servers = require('intract.servers')

local METHODS = { 'auto', 'lora', 'qlora', 'standard' }

--- Begins a run: `start [METHOD] [MINUTES]`, in any order.
---
---@param arguments string[]
---@param bang boolean
local function start(arguments, bang)
  local order = vim.empty_dict()
  for _, argument in ipairs(arguments) do
    if tonumber(argument) then
      order.minutes = tonumber(argument)
    elseif vim.tbl_contains(METHODS, argument) then
      order.method = argument
    else
      say.error(('%q is neither a number of minutes nor a method (%s).'):format(argument, table.concat(METHODS, ', ')))
      return
    end
  end
  local question = 'Fine-tune on this project? It runs in the background and may take a while.'
  if bang or vim.fn.confirm(question, '&Fine-tune\n&No', 1) == 1 then
    servers.execute('intract.fineTune', order, function(result)
      say.info(result.message)
    end)
  end
end

---@param answer table of intract.fineTune.status
---@return string[]
local function status_lines(answer)
  if not answer.run then
    return { answer.message }
  end
  local left = answer.secondsLeft
  local lines = format.columns({
    { 'run', answer.run },
    { 'state', answer.paused and 'paused' or answer.state },
    { 'so far', answer.message },
    { 'folder', answer.workspace and vim.fn.fnamemodify(answer.workspace, ':~') },
    { 'progress', answer.fraction and ('%d%%'):format(math.floor(answer.fraction * 100 + 0.5)) },
    { 'step', answer.steps and answer.steps > 0 and ('%d of %d'):format(answer.step or 0, answer.steps) or nil },
    { 'loss', answer.loss and ('%.3f'):format(answer.loss) },
    { 'validation', answer.validationLoss and ('%.3f'):format(answer.validationLoss) },
    { 'left', left and ('about %d minutes'):format(math.ceil(left / 60)) },
    { 'adapter', answer.adapter },
  })
  for _, note in ipairs(answer.notes or {}) do
    lines[#lines + 1] = '- ' .. note
  end
  return lines
end

--- Opens the newest report in the browser, or says where it is.
---
---@param answer table of intract.fineTune.report
local function open_report(answer)
  if not answer.html then
    say.info(answer.message)
    return
  end
  local opened, problem = vim.ui.open(answer.html)
  page.open('intract: report', {
    answer.message,
    format.gain(answer.figures),
    '',
    (opened and 'Opened ' or 'No program opens it here: ') .. answer.html,
    problem and not opened and tostring(problem):gsub('\n.*', '') or nil,
  })
end

---@type intract.Command
return {
  about = 'fine-tuning on this project',
  default = 'status',
  sub = {
    start = {
      about = 'begin a run: start [METHOD] [MINUTES]',
      server = 'intract.fineTune',
      names = function()
        return METHODS
      end,
      run = start,
    },
    cancel = {
      about = 'end the run that is going on',
      server = 'intract.fineTune.cancel',
      run = function()
        servers.execute('intract.fineTune.cancel', nil, function(result)
          say.info(result.message)
        end)
      end,
    },
    status = {
      about = 'show how a run stands',
      server = 'intract.fineTune.status',
      run = function()
        servers.execute('intract.fineTune.status', nil, function(answer)
          page.open('intract: fine-tuning', status_lines(answer))
        end)
      end,
    },
    report = {
      about = 'open the report of the newest run',
      server = 'intract.fineTune.report',
      run = function()
        servers.execute('intract.fineTune.report', nil, open_report)
      end,
    },
  },
}
